import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_events import StepBlock
from penaltyscope_service.history import NewBlock, Place, keep
from penaltyscope_service.history._block import _row
from tests.service.steps import INF, NAN, ODD, UNHURRIED, blocks, make_steps

PLACE = Place(1, 2, 3)


@UNHURRIED
@given(st.one_of(blocks(), blocks(numbers=ODD)), st.booleans())
def test_a_row_tells_its_steps_and_how_many_are_not_finite(block: StepBlock, packed: bool) -> None:
    kept = keep(NewBlock(PLACE, 4.5, block), packed=packed)
    row = _row(7, kept, packed)

    assert row[:5] == (7, 1, 2, 3, packed)
    counts = len(block), min(block.step), max(block.step), np.count_nonzero(block.nonfinite)
    assert row[5:9] == counts
    assert all(type(number) is int for number in row[5:9])  # SQLite takes no others
    assert row[9] == 4.5


def test_neither_a_missing_loss_nor_a_missing_norm_is_a_finding() -> None:
    flags = [[0, 0], [16, 0], [128, 0], [0, 1]]
    base = [NAN, 1.0, -INF, 1.0]
    missing = make_steps(range(4), base=None, flags=flags)
    real = make_steps(range(4), base=base, flags=flags)
    found = [keep(NewBlock(PLACE, 0.0, block)).nonfinite_rows for block in (missing, real)]
    assert found == [1, 3]
