"""What is counted and remembered of steps, in arrays."""

from penaltyscope_service.aggregate._finding import KINDS, STAGES, FirstFinding
from penaltyscope_service.aggregate._glance import glance
from penaltyscope_service.aggregate._histogram import DURATION_BOUNDS, NORM_BOUNDS
from penaltyscope_service.aggregate._pipeline import PipelineAggregate
from penaltyscope_service.aggregate._snapshot import (
    SnapshotError,
    restore_snapshot,
    take_snapshot,
)
from penaltyscope_service.aggregate._stream import StreamAggregate
from penaltyscope_service.aggregate._term import TermAggregate

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
    "glance",
    "restore_snapshot",
    "take_snapshot",
]
