"""What is counted and remembered of steps, in arrays."""

from penaltyscope_service.aggregate._finding import KINDS, STAGES, FirstFinding
from penaltyscope_service.aggregate._glance import glance
from penaltyscope_service.aggregate._histogram import DURATION_BOUNDS, NORM_BOUNDS
from penaltyscope_service.aggregate._pipeline import PipelineAggregate, combine
from penaltyscope_service.aggregate._snapshot import (
    SnapshotError,
    restore_snapshot,
    take_snapshot,
)
from penaltyscope_service.aggregate._stream import StreamAggregate
from penaltyscope_service.aggregate._term import TermAggregate
from penaltyscope_service.aggregate._window import read_windows

__all__ = [
    "DURATION_BOUNDS",
    "KINDS",
    "NORM_BOUNDS",
    "STAGES",
    "FirstFinding",
    "PipelineAggregate",
    "SnapshotError",
    "StreamAggregate",
    "TermAggregate",
    "combine",
    "glance",
    "read_windows",
    "restore_snapshot",
    "take_snapshot",
]
