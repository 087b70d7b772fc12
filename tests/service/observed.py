"""An observatory on a real file, what is sent to it, and what it shows."""

from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from penaltyscope_events import AttributeValue, Event, RunIdentity, StepBlock, names
from penaltyscope_service.decode import Batch
from penaltyscope_service.observatory import Limits, Observatory

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Clock:
    """Unix time in seconds, as a test sets it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def open_observatory(path: Path, clock: Clock | None = None, **limits: float) -> Observatory:
    """With default limits but for some; ``path`` is a folder."""
    given = Limits(**limits)  # type: ignore[arg-type]
    return Observatory.open(path / "history.sqlite", limits=given, clock=clock or Clock())


def batch(
    *steps: StepBlock,
    run: str = "r",
    rank: int = 0,
    attempt: int = 0,
    tags: dict[str, str] | None = None,
    events: Sequence[Event] = (),
) -> Batch:
    """What one process sends."""
    identity = RunIdentity(run_id=run, rank=rank, attempt=attempt, tags=tags or {}, world_size=2)
    return Batch(identity=identity, steps=steps, events=tuple(events))


def event(name: str, second: int = 1, **attributes: AttributeValue) -> Event:
    """An event; attributes are named by their constants."""
    named = {getattr(names, key.upper()): value for key, value in attributes.items()}
    return Event(name=name, time_ns=second * 10**9, attributes=named)


def ending(status: str, second: int = 100) -> Event:
    """The end of a process."""
    return event(names.RUN_END, second, status=status)


def read(text: bytes) -> Samples:
    """All samples of a page by name and sorted labels, read by Prometheus' own client."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            of_name = samples.setdefault(sample.name.removeprefix("penaltyscope_"), {})
            assert labels not in of_name, f"{sample.name} {labels} is there twice"
            of_name[labels] = sample.value
    return samples


def labels(**given: str | int) -> tuple[tuple[str, str], ...]:
    """Labels as ``read`` gives them."""
    return tuple(sorted((name, str(value)) for name, value in given.items()))


def counters(page: bytes) -> Samples:
    """The counters and histograms of runs on a page."""
    ends = ("_total", "_bucket", "_sum", "_count")
    own = "series_refused_total"
    return {name: s for name, s in read(page).items() if name.endswith(ends) and name != own}
