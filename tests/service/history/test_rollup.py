import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_events import StepBlock
from penaltyscope_service.history import ROLLUP_ROWS, rollup_column
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.measured import evaluated, norm_measured, total_norm_measured
from tests.service.steps import INF, NAN, ODD, SINGLES, UNHURRIED, blocks, make_steps


def real_numbers(block: StepBlock, column: str, term: int) -> list[tuple[float, int]]:
    """The numbers of a column that mean something, with their steps, one after the other."""
    numbers = getattr(block, column)
    real = {
        "base": block.has_base,
        "total": np.ones(len(block), np.bool_),
        "total_gradient_norm": total_norm_measured(block.total_gradient_norm, block.flags),
        "value": evaluated(block.flags),
        "contribution": evaluated(block.flags),
        "gradient_norm": norm_measured(block.flags),
    }[column]
    if numbers.ndim == 2:
        numbers, real = numbers[:, term], real[:, term]
    return list(zip(numbers[real].tolist(), block.step[real].tolist(), strict=True))


@UNHURRIED
@given(st.one_of(blocks(), blocks(numbers=ODD), blocks(numbers=SINGLES)))
def test_a_rollup_has_the_extremes_of_every_column(block: StepBlock) -> None:
    (rollup,) = roll_up(block)
    names = ("base", "total", "total_gradient_norm", "value", "contribution", "gradient_norm")
    for column, term in ((name, t) for name in names for t in range(len(block.terms))):
        pairs = real_numbers(block, column, term)
        finite = [pair for pair in pairs if np.isfinite(pair[0])]
        strange = [pair for pair in pairs if not np.isfinite(pair[0])]
        cell = rollup[rollup_column(column, term)]
        if finite:
            assert cell["lowest"] == min(finite)[0]
            assert cell["highest"] == max(finite)[0]
            assert (cell["lowest"], cell["lowest_step"]) in finite
            assert (cell["highest"], cell["highest_step"]) in finite
        else:
            assert cell["lowest"] > cell["highest"]
        if strange:
            assert str(cell["strange"]) == str(strange[0][0])
            assert cell["strange_step"] == strange[0][1]
        else:
            assert cell["strange"] == 0


def test_a_block_has_a_rollup_for_each_stretch_of_rows() -> None:
    value = np.zeros((ROLLUP_ROWS + 1, 1))
    value[[0, 5, ROLLUP_ROWS], 0] = 7.0, NAN, -INF
    rollup = roll_up(make_steps(range(ROLLUP_ROWS + 1), ["a"], value=value))
    assert rollup.shape == (2, 6)
    first, second = rollup[:, rollup_column("value", 0)]
    assert (first["lowest"], first["highest"], first["strange_step"]) == (0.0, 7.0, 5)
    assert (second["strange"], second["strange_step"]) == (-INF, ROLLUP_ROWS)
    assert second["lowest"] > second["highest"]


def test_of_two_zeros_that_are_the_lowest_the_first_is_shown_with_its_sign() -> None:
    value = np.array([[3.0], [-0.0], [0.0], [5.0], [0.0], [-0.0]])
    steps = make_steps(range(6), ["a"], value=value)
    cell = roll_up(steps)[0, rollup_column("value", 0)]
    assert (str(cell["lowest"]), cell["lowest_step"]) == ("-0.0", 1)
    other = make_steps(range(6), ["a"], value=-value)
    cell = roll_up(other)[0, rollup_column("value", 0)]
    assert (str(cell["highest"]), cell["highest_step"]) == ("0.0", 1)
