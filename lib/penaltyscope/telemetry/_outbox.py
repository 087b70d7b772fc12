"""Where encoded requests wait until the receiver has taken them."""

from collections import deque
from typing import NamedTuple, Protocol


class Request(NamedTuple):
    """One encoded request."""

    body: bytes
    steps: int


class Outbox(Protocol):
    """A bounded queue of requests. Whoever uses it holds a lock."""

    @property
    def durable(self) -> bool:
        """Whether what is appended outlives the process."""

    @property
    def lost_steps(self) -> int:
        """Steps that were given up for want of room."""

    def __len__(self) -> int: ...

    def append(self, request: Request) -> None:
        """Takes a request; may give up the oldest for it."""

    def first(self) -> Request | None:
        """The oldest request, which stays."""

    def drop_first(self) -> None:
        """Forgets the request that ``first`` gave: it was answered."""

    def close(self) -> int:
        """Ends; returns how many steps are lost with what was still waiting."""


class MemoryOutbox:
    """Keeps requests in memory, up to ``max_bytes``."""

    durable = False

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._queue: deque[Request] = deque()
        self._bytes = 0
        self._lost_steps = 0

    @property
    def lost_steps(self) -> int:
        """Steps that were given up for want of room."""
        return self._lost_steps

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, request: Request) -> None:
        """Takes a request; gives up the oldest for it when there is no room."""
        self._queue.append(request)
        self._bytes += len(request.body)
        # The first is being sent; the one behind it is the oldest that can be given up.
        while self._bytes > self._max_bytes and len(self._queue) > 1:
            self._lost_steps += self._queue[1].steps
            self._bytes -= len(self._queue[1].body)
            del self._queue[1]

    def first(self) -> Request | None:
        """The oldest request, which stays."""
        return self._queue[0] if self._queue else None

    def drop_first(self) -> None:
        """Forgets the oldest request."""
        self._bytes -= len(self._queue.popleft().body)

    def close(self) -> int:
        """All that was still waiting is lost."""
        return sum(request.steps for request in self._queue)
