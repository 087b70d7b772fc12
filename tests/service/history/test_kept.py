"""Small blocks as they wait in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_events import StepBlock
from penaltyscope_service.history import NewBlock, Place, keep, unite
from penaltyscope_service.joining import join
from tests.service.steps import ODD, SINGLES, UNHURRIED, blocks, make_steps, same_steps

PLACE = Place(1, 2, 3)
ANY_BLOCK = st.one_of(blocks(max_rows=6), blocks(numbers=SINGLES, max_rows=6), blocks(numbers=ODD))


@UNHURRIED
@given(ANY_BLOCK)
def test_a_block_says_what_is_asked_of_it_and_comes_back_to_the_last_bit(block: StepBlock) -> None:
    kept = keep(NewBlock(PLACE, 4.5, block))
    assert (kept.place, kept.received_at) == (PLACE, 4.5)
    assert (kept.first_step, kept.last_step) == (min(block.step), max(block.step))
    assert kept.nonfinite_rows == block.nonfinite.sum()
    for name in ("step", "seq", "stop_ns"):
        assert getattr(kept, name).tolist() == getattr(block, name).tolist()
    assert same_steps(unite([kept]), block)


@UNHURRIED
@given(st.lists(ANY_BLOCK, min_size=1, max_size=4))
def test_blocks_are_united_whatever_each_of_them_leaves_out(given_blocks: list[StepBlock]) -> None:
    terms = given_blocks[0].terms
    alike = [block for block in given_blocks if block.terms == terms]
    kept = [keep(NewBlock(PLACE, 4.5, block)) for block in alike]
    assert same_steps(unite(kept), join(alike))


def test_a_packed_block_is_none_that_waits() -> None:
    packed = keep(NewBlock(PLACE, 4.5, make_steps(range(3))), packed=True)
    with pytest.raises(ValueError, match="the kind of all payloads must be 1"):
        unite([packed])
