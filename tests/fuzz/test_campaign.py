from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from penaltyscope_service.decode import Batch
from penaltyscope_service.observatory import Limits, Observatory
from tests.fuzz.campaign import inputs, run


def test_nothing_but_a_refusal_is_ever_raised(tmp_path: Path) -> None:
    store = Observatory.open(tmp_path / "history.sqlite", limits=Limits())

    report = run(store, count=5_000, seed=20_261_121)

    assert report.findings == []
    assert report.inputs == 5_000
    # A campaign of which nothing got through, or everything, would say little.
    assert report.kept > 100
    assert report.outcomes["InvalidRequestError"] > 1_000
    assert report.outcomes["RefusedError"] > 500
    assert report.outcomes["partial success"] > 50
    store.close()


def test_what_a_store_cannot_take_is_found_and_its_neighbours_are_not() -> None:
    class Store:
        kept = 0

        def ingest(self, batches: Sequence[Batch], /) -> None:
            if any(len(block) == 3 for batch in batches for block in batch.steps):
                raise ZeroDivisionError("a defect")
            self.kept += len(batches)

    store = Store()
    report = run(store, count=2_000, seed=1)

    assert report.findings
    assert {error for error, _ in report.findings} == {"ZeroDivisionError('a defect')"}
    assert store.kept >= report.kept > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_campaign_can_be_repeated(seed: int) -> None:
    assert list(islice(inputs(seed), 100)) == list(islice(inputs(seed), 100))
