"""When and how things are looked at."""

from collections.abc import Callable
from dataclasses import dataclass

from penaltyscope_service.vitals import Watchman


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the numbers depend on besides what was received."""

    now: float
    """Unix time in seconds."""
    window_seconds: float
    gap_seconds: float
    watchman: Watchman
    tenant_of: Callable[[str], str]
    """By a run's id; empty: no tenant's."""

    @property
    def period(self) -> int:
        """The period of window maxima."""
        return int(self.now // self.window_seconds)
