import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.history._rollup_bytes import (
    decode_rollups,
    encode_rollups,
    from_version_1,
)
from tests.service.steps import NAN, SINGLES, UNHURRIED, blocks, make_steps


@UNHURRIED
@given(st.lists(st.one_of(blocks(max_terms=1), blocks(numbers=SINGLES, max_terms=1)), max_size=3))
def test_rollups_come_back_as_they_were(written: list[StepBlock]) -> None:
    rollups = [roll_up(block) for block in written]

    again = decode_rollups(map(encode_rollups, rollups), 6, [4, 0])

    expected = b"".join(rollup[:, [4, 0]].tobytes() for rollup in rollups)
    assert _meant(again).tobytes() == _meant(np.frombuffer(expected, again.dtype)).tobytes()


def _meant(rollups: NDArray[np.void]) -> NDArray[np.void]:
    """Without what nobody may read: the fields whose count is 0."""
    meant = rollups.ravel().copy()
    for name in ("nonfinite", "nonfinite_step"):
        meant[name][meant["nonfinite_count"] == 0] = 0
    return meant


def test_rollups_of_finite_singles_take_a_third_of_the_space() -> None:
    value = np.random.default_rng(0).random((1024, 1)).astype(np.float32).astype(np.float64)
    rollups = roll_up(make_steps(range(1024), ["a"], value=value, weight=1.0))
    strange = roll_up(make_steps(range(1024), ["a"], value=np.where(value > 0.99, NAN, value)))

    assert len(encode_rollups(rollups)) < rollups.nbytes / 3
    assert len(encode_rollups(strange)) > len(encode_rollups(rollups))


def test_rollups_of_older_files_are_read_as_well() -> None:
    rollups = roll_up(make_steps(range(300), ["a"]))
    older = from_version_1(rollups.tobytes(), 2, 6)

    assert decode_rollups([older], 6, range(6)).tobytes() == rollups.tobytes()
    written = encode_rollups(rollups)
    assert from_version_1(written, 2, 6) == written
