from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.dedupe import MAX_SEQ, Gap, Ledger, admit
from tests.service.steps import UNHURRIED

DELAY = 300.0
NUMBERS = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def enter(
    ledger: Ledger, *seq: int, now: float = 0.0, max_gaps: int = 1024
) -> tuple[Ledger, list[int]]:
    """The ledger afterwards, and the numbers that were new."""
    numbers = np.array(seq, np.int64)
    ledger, new = admit(ledger, numbers, now=now, gap_seconds=DELAY, max_gaps=max_gaps)
    return ledger, numbers[new].tolist()


def split(numbers: list[int], cuts: list[int]) -> list[list[int]]:
    edges = [0, *sorted(cut % (len(numbers) + 1) for cut in cuts), len(numbers)]
    parts = [numbers[a:b] for a, b in pairwise(edges)]
    return [part for part in parts if part]


@UNHURRIED
@given(numbers=NUMBERS, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_every_number_is_new_exactly_once_in_any_order_and_any_batches(
    numbers: list[int], cuts: list[int]
) -> None:
    ledger, kept = Ledger(), list[int]()
    for part in split(numbers, cuts):
        ledger, new = enter(ledger, *part)
        kept += new
    assert sorted(kept) == sorted(set(numbers))
    # The first of several is the one that is kept.
    assert kept == list(dict.fromkeys(numbers))


@UNHURRIED
@given(numbers=NUMBERS, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_what_is_missing_is_what_did_not_arrive(numbers: list[int], cuts: list[int]) -> None:
    ledger = Ledger()
    for part in split(numbers, cuts):
        ledger, _ = enter(ledger, *part)
    absent = set(range(max(numbers))) - set(numbers)
    assert ledger.missing(DELAY - 1, DELAY) == 0
    assert ledger.missing(DELAY, DELAY) == len(absent)
    assert {n for gap in ledger.gaps for n in range(gap.start, gap.stop)} == absent
    assert ledger.high == max(numbers) + 1


@UNHURRIED
@given(
    parts=st.lists(st.tuples(st.floats(0, 200), NUMBERS), min_size=1, max_size=12),
    max_gaps=st.integers(0, 3),
)
def test_the_count_of_missing_numbers_never_falls(
    parts: list[tuple[float, list[int]]], max_gaps: int
) -> None:
    ledger, now, missing = Ledger(), 0.0, 0
    for passed, numbers in parts:
        now += passed
        assert ledger.missing(now, DELAY) >= missing
        missing = ledger.missing(now, DELAY)
        ledger, _ = enter(ledger, *numbers, now=now, max_gaps=max_gaps)
        assert ledger.missing(now, DELAY) >= missing
        missing = ledger.missing(now, DELAY)
        assert len(ledger.gaps) <= max_gaps


def test_a_gap_is_reported_after_the_delay_and_its_late_numbers_are_kept_all_the_same() -> None:
    ledger, _ = enter(Ledger(), 0, 1, 5, now=10.0)
    assert ledger.missing(10.0 + DELAY - 1, DELAY) == 0
    assert ledger.missing(10.0 + DELAY, DELAY) == 3
    ledger, new = enter(ledger, 3, now=10.0 + DELAY + 1)
    assert new == [3]
    assert ledger.missing(10.0 + DELAY + 1, DELAY) == 3  # it was missing for a while


def test_a_gap_that_closes_in_time_is_never_reported() -> None:
    ledger, _ = enter(Ledger(), 2, now=0.0)
    ledger, new = enter(ledger, 1, 0, now=DELAY - 1)
    assert new == [1, 0]
    assert ledger == Ledger(high=3)


def test_of_too_many_gaps_the_oldest_is_closed_and_its_numbers_are_duplicates_from_then_on() -> (
    None
):
    ledger, _ = enter(Ledger(), 1, 3, 5, max_gaps=2)
    assert ledger.gaps == (Gap(2, 3, 0.0), Gap(4, 5, 0.0))
    assert ledger.missing(0.0, DELAY) == 1
    ledger, new = enter(ledger, 0, 2, max_gaps=2)
    assert new == [2]


@pytest.mark.parametrize("largest", [MAX_SEQ, MAX_SEQ - 1])
def test_the_largest_number_leaves_room_for_arithmetic(largest: int) -> None:
    ledger, new = enter(Ledger(), largest, 0)
    assert new == [largest, 0]
    assert ledger.missing(DELAY, DELAY) == largest - 1
    assert enter(ledger, largest)[1] == []
