import pytest

from penaltyscope_service.aggregate import (
    SnapshotError,
    StreamAggregate,
    restore_snapshot,
    take_snapshot,
)


def test_a_snapshot_of_another_version_is_refused() -> None:
    snapshot = take_snapshot(StreamAggregate.empty())
    with pytest.raises(SnapshotError, match="version must be 1, got 7"):
        restore_snapshot(b"\x07" + snapshot[1:])
