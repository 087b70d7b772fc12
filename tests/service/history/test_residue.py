from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penaltyscope_service.history._residue import Residues, grow, shrink
from tests.service.steps import UNHURRIED

Integers = NDArray[np.int64]
ROWS = 1024
INT64 = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 300), st.just(-(2**63)))


def restored(found: Residues, rows: int) -> Integers:
    """What a reader makes of residues."""
    residues = found.numbers.copy()
    residues.ravel()[found.patches.places] = found.patches.residues
    numbers = np.repeat(found.heads["origin"][:, None], rows, axis=1)
    active = found.heads["width"] > 0
    numbers[active] = grow(found.heads[active], residues)
    return numbers


@UNHURRIED
@given(
    st.integers(1, 50).flatmap(
        lambda n: st.lists(st.lists(INT64, min_size=n, max_size=n), min_size=1)
    )
)
def test_integers_come_back_as_they_were(rows: list[list[int]]) -> None:
    numbers = np.array(rows, np.int64)
    assert restored(shrink(numbers), numbers.shape[1]).tolist() == rows


def kinds() -> dict[str, tuple[Integers, dict[str, int], int]]:
    """Rows as jobs have them, what is expected of their head, and of the number of patches."""
    random, i = np.random.default_rng(0), np.arange(ROWS)
    noise = random.integers(-1000, 1000, ROWS)
    spikes = noise.copy()
    spikes[[3, 500, 900]] = 2**60, -(2**63), 2**63 - 1
    return {
        "constant": (np.full(ROWS, -7), {"width": 0}, 0),
        "counter": (10**15 + i * 3, {"order": 1, "width": 1}, 1),
        "a counter from its own step": (3 + i * 3, {"order": 1, "width": 1}, 0),
        "noise": (10**12 + noise, {"order": 0, "width": 12}, 0),
        "clock": (10**18 + np.cumsum(noise + 10**9), {"order": 1, "width": 13}, 1),
        "parabola": (i * i * 5, {"order": 2, "width": 1}, 2),
        "short": (noise << 29, {"shift": 29, "width": 12}, 0),
        "spikes": (spikes, {"order": 0, "width": 13}, 3),
    }


@pytest.mark.parametrize("kind", kinds())
def test_a_row_keeps_only_what_its_numbers_do_not_have_in_common(kind: str) -> None:
    numbers, expected, patches = kinds()[kind]
    found = shrink(numbers[None].copy())
    head: dict[str, Any] = {name: int(found.heads[name][0]) for name in expected}
    assert head == expected
    assert len(found.patches.places) == patches
    assert (restored(found, ROWS) == numbers).all()


@UNHURRIED
@given(st.lists(INT64, min_size=1, max_size=16))
def test_few_numbers_are_counted_from_their_median(numbers: list[int]) -> None:
    head = shrink(np.array([numbers], np.int64)).heads[0]
    assert int(head["origin"]) << int(head["shift"]) == sorted(numbers)[len(numbers) // 2]
