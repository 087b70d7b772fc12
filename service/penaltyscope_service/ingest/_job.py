"""What the event loop and the writer's thread know of a request that is to be kept."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from penaltyscope_service.decode import Decoded

Outcome = Decoded | Exception
"""What was kept, or why nothing was."""


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way to the history."""

    size: int
    decode: Callable[[], Decoded]
    done: Callable[[Outcome], None]
    is_cancelled: bool = False

    def cancel(self, msg: object = None) -> None:  # noqa: ARG002  # as a task of the server
        """Nobody waits for it any more."""
        self.is_cancelled = True


class _Waiting(asyncio.Future[Decoded]):
    """Of who would rather wait than be called; holds the job, and is held by it, until done."""

    job: Job

    def settle(self, outcome: Outcome) -> None:
        """The end of the job."""
        del self.job
        if isinstance(outcome, Exception):
            self.set_exception(outcome)
        else:
            self.set_result(outcome)

    def cancel(self, msg: object = None) -> bool:
        """Cancels the job at once, not only when the event loop comes to it."""
        if not self.done():
            self.job.cancel()
            del self.job
        return super().cancel(msg)


def awaited(begin: Callable[[Callable[[Outcome], None]], Job]) -> asyncio.Future[Decoded]:
    """Begins a job, which is given what to call when it is done, and is done when that is."""
    waiting = _Waiting()
    waiting.job = begin(waiting.settle)
    return waiting
