import pytest

from penaltyscope_service.aggregate import (
    SnapshotError,
    StreamAggregate,
    restore_snapshot,
    take_snapshot,
)
from tests.service.steps import make_steps


def stream() -> StreamAggregate:
    aggregate = StreamAggregate.empty()
    aggregate.add(make_steps(range(30)), received_at=1.0, period=0)
    return aggregate


def test_a_snapshot_of_another_version_is_refused() -> None:
    snapshot = take_snapshot(StreamAggregate.empty())
    with pytest.raises(SnapshotError, match="version must be 1, got 7"):
        restore_snapshot(b"\x07" + snapshot[1:])


def test_terms_of_a_snapshot_have_places_of_their_own() -> None:
    snapshot = take_snapshot(stream())
    with pytest.raises(SnapshotError, match=r"must be in order, got \[0, 7\]"):
        restore_snapshot(snapshot.replace(b'"b":1', b'"b":7'))


def test_arrays_of_a_snapshot_that_do_not_fit_its_terms_are_refused() -> None:
    snapshot = take_snapshot(stream())
    with pytest.raises(SnapshotError, match=r"nonfinite must be int64\[2, 6\], got int64\[3, 4\]"):
        restore_snapshot(snapshot.replace(b'["<i8",[2,6]]', b'["<i8",[3,4]]'))
