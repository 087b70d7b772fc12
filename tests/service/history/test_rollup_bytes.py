import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_events import StepBlock
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.history._rollup_bytes import decode_rollups, encode_rollups
from tests.service.steps import NAN, SINGLES, UNHURRIED, blocks, make_steps


@UNHURRIED
@given(st.lists(st.one_of(blocks(max_terms=1), blocks(numbers=SINGLES, max_terms=1)), max_size=3))
def test_rollups_come_back_as_they_were(written: list[StepBlock]) -> None:
    rollups = [roll_up(block) for block in written]

    again = decode_rollups([*map(encode_rollups, rollups)], 6, [4, 0])

    expected = b"".join(rollup[:, [4, 0]].tobytes() for rollup in rollups)
    assert again.tobytes() == expected


def test_blocks_of_any_length_and_stride_are_read_together() -> None:
    steps = [np.arange(1024) * 10, np.arange(300) + 2**62, np.arange(1024) ** 2, np.arange(5)]
    rollups = [roll_up(make_steps(range(len(step)), ["a"], step=step)) for step in steps]
    again = decode_rollups([*map(encode_rollups, rollups)], 6, range(6))
    assert again.tobytes() == np.concatenate(rollups).tobytes()


def test_rollups_of_finite_singles_take_a_quarter_of_the_space() -> None:
    random = np.random.default_rng(0)
    value = random.random((1024, 1)).astype(np.float32).astype(np.float64)
    rollups = roll_up(make_steps(range(1024), ["a"], value=value, weight=1.0))
    strange = roll_up(make_steps(range(1024), ["a"], value=np.where(value > 0.99, NAN, value)))

    assert len(encode_rollups(rollups)) == 9 + 4 * (8 + 6 * 10) < rollups.nbytes / 4
    assert len(encode_rollups(strange)) > len(encode_rollups(rollups))
