from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from penaltyscope_events import COLUMNS, StepBlock
from penaltyscope_service.history._payload import decode_block, decode_columns, encode_block
from tests.service.steps import INF, NAN, ODD, SINGLES, UNHURRIED, blocks, make_steps, same_steps

KINDS: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "noise": lambda random, n: random.standard_normal(n),
    "singles": lambda random, n: random.standard_normal(n, np.float32).astype(np.float64),
    "walk": lambda random, n: np.cumsum(random.standard_normal(n)),
    "smooth": lambda random, n: np.cos(np.arange(n) / random.integers(10, 10_000)),
    "spikes": lambda random, n: np.where(random.random(n) < 0.01, 1e30, random.random(n)),
    "zeros": lambda random, n: random.choice([0.0, -0.0, 5e-324, -1.0], n),
    "strange": lambda random, n: random.choice([NAN, -NAN, INF, -INF, 1.5], n),
    "bits": lambda random, n: random.integers(0, 2**64, n, np.uint64).view(np.float64),
}
"""Columns of every kind that there may be."""

PACKED = pytest.mark.parametrize("packed", [False, True])


def again(block: StepBlock, *, packed: bool) -> StepBlock:
    return decode_block(
        encode_block(block, packed=packed),
        pipeline=block.pipeline,
        incarnation=block.incarnation,
        terms=block.terms,
        rows=len(block),
    )


@PACKED
@UNHURRIED
@given(block=st.one_of(blocks(), blocks(numbers=SINGLES), blocks(numbers=ODD)))
def test_a_block_comes_back_to_the_last_bit(block: StepBlock, packed: bool) -> None:
    assert same_steps(again(block, packed=packed), block)


@PACKED
@UNHURRIED
@given(block=st.one_of(blocks(max_rows=6), blocks(numbers=SINGLES, max_rows=6)))
def test_columns_are_stored_alike_however_they_lie_in_memory(
    block: StepBlock, packed: bool
) -> None:
    def apart(column: NDArray[Any]) -> NDArray[Any]:
        found = np.asfortranarray(np.repeat(column[..., None], 3, axis=-1))[..., 1]
        found.flags.writeable = False
        return found

    columns: dict[str, Any] = {name: apart(getattr(block, name)) for name in COLUMNS}
    elsewhere = replace(block, **columns)
    assert encode_block(elsewhere, packed=packed) == encode_block(block, packed=packed)


@pytest.mark.parametrize("name", COLUMNS)
@PACKED
def test_columns_of_different_lengths_are_refused(name: str, packed: bool) -> None:
    block = make_steps(range(9))
    columns: dict[str, Any] = {name: getattr(block, name)[:7]}
    with pytest.raises(ValueError, match=r"columns must be as long|could not broadcast"):
        encode_block(replace(block, **columns), packed=packed)


@PACKED
def test_signs_of_zero_and_payloads_of_nan_survive(packed: bool) -> None:
    signalling = np.uint64(0x7FF0_0000_0000_0001).view(np.float64)
    for odd in (-0.0, NAN, -NAN, INF, -INF, signalling):
        block = make_steps(range(3), value=[[odd, 1.0]] * 3, norm=[[1.0, odd]] * 3, base=odd)
        assert same_steps(again(block, packed=packed), block)


@PACKED
def test_singles_take_half_the_space_of_doubles(packed: bool) -> None:
    doubles = np.random.default_rng(0).random((1024, 1))
    singles = doubles.astype(np.float32).astype(np.float64)
    sizes = [
        len(encode_block(make_steps(range(1024), ["a"], value=n, norm=n[::-1]), packed=packed))
        for n in (singles, doubles)
    ]
    # Packed, 29 bits of value and norm, which the others follow from; plain, half of each of the
    # seven columns of numbers but the weights, which are all the same, and the contributions.
    saved = sizes[1] - sizes[0]
    assert saved > 1024 * 2 * 28.9 / 8 if packed else saved == 1024 * 4 * 5


@pytest.mark.parametrize("weight", [0.5, 0.1, np.arange(16.0)[:, None], 1e300, -0.0])
def test_contributions_come_back_whether_they_are_products_or_nearly(weight: ArrayLike) -> None:
    value = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32).astype(np.float64)
    block = make_steps(range(16), value=value, weight=weight)
    with np.errstate(over="ignore"):
        rounded = block.contribution.astype(np.float32).astype(np.float64)
    nearly = rounded.copy()
    nearly[5, 1] = np.nextafter(nearly[5, 1], 1.0)
    for contribution in (block.contribution, rounded, nearly):
        steps = replace(block, contribution=contribution)
        assert same_steps(again(steps, packed=False), steps)


def test_a_small_block_leaves_out_weights_that_stay_and_contributions_that_follow() -> None:
    random = np.random.default_rng(0).random((64, 8)).astype(np.float32).astype(np.float64)
    terms = [f"t{i}" for i in range(8)]
    block = make_steps(range(64), terms, value=random, norm=random, weight=0.1)
    rounded = block.contribution.astype(np.float32).astype(np.float64)
    single = replace(block, contribution=rounded, total=block.base)
    assert len(encode_block(single, packed=False)) < 64 * (4 * 8 + 1 + 3 * 4 + 2 * 8 * 4) + 100


def singles(terms: int) -> NDArray[np.float64]:
    numbers = 1 + np.random.default_rng(0).random((1024, terms), np.float32)
    return numbers.astype(np.float64)


def test_what_follows_from_other_columns_takes_no_space_when_packed() -> None:
    names = [f"t{i}" for i in range(8)]
    block = make_steps(range(1024), names, value=singles(8), norm=singles(8)[::-1], weight=0.3)
    # The 23 bits of values and norms, and one for the code that they share; the rest is constant.
    assert len(encode_block(block, packed=True)) < 1024 * 2 * 8 * 24 / 8


def test_a_weight_that_a_schedule_computes_takes_a_third_of_its_space_when_packed() -> None:
    constant = make_steps(range(1024), ["a"], value=singles(1), norm=singles(1), weight=0.3)
    weight = 0.3 * (1 + np.cos(np.arange(1024)[:, None] * np.pi / 10_000)) / 2
    schedule = make_steps(range(1024), ["a"], value=singles(1), norm=singles(1), weight=weight)
    sizes = [len(encode_block(block, packed=True)) for block in (constant, schedule)]
    assert sizes[1] - sizes[0] < 1024 * 8 / 3


def test_a_few_numbers_out_of_range_do_not_widen_the_others_when_packed() -> None:
    value = singles(2)
    size = len(encode_block(make_steps(range(1024), value=value), packed=True))
    value[[5, 700], 0] = NAN, INF
    value[900, 1] = -1e300
    odd = make_steps(range(1024), value=value)
    assert same_steps(again(odd, packed=True), odd)
    assert len(encode_block(odd, packed=True)) < size + 300


@UNHURRIED
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=4, max_size=4),
    rows=st.sampled_from([35, 100, 1023, 1024, 1500]),
)
def test_long_blocks_come_back_to_the_last_bit(seed: int, kinds: list[str], rows: int) -> None:
    random = np.random.default_rng(seed)
    value, weight, norm, base = (KINDS[kind](random, rows) for kind in kinds)
    block = make_steps(
        range(rows),
        ["a"],
        value=value[:, None],
        weight=weight[:, None],
        norm=norm[:, None],
        base=base,
        step=np.abs(base.view(np.int64)),
        stop_ns=10**18 + np.cumsum(random.integers(0, 10**9, rows)),
        duration=np.abs(norm),
    )
    assert same_steps(again(block, packed=True), block)


def test_a_chart_reads_only_the_columns_that_it_draws() -> None:
    block = make_steps(range(5))
    columns = decode_columns(
        encode_block(block, packed=True), ["norm", "step"][1:], terms=2, rows=5
    )
    assert list(columns) == ["step"]


@pytest.mark.parametrize(
    ("written", "rows"),
    [*((24, rows) for rows in (-1, 0, 1, 12, 23, 25, 48, 10**15)), (1, 2), (1, 10**15)],
)
@PACKED
def test_a_payload_is_not_read_as_another_number_of_rows(
    written: int, rows: int, packed: bool
) -> None:
    payload = encode_block(make_steps(range(written)), packed=packed)
    with pytest.raises(ValueError):  # noqa: PT011  # in many words
        decode_columns(payload, COLUMNS, terms=2, rows=rows)


def test_any_octet_but_0_says_that_there_is_a_base() -> None:
    payload = bytearray(encode_block(make_steps([0]), packed=False))
    place = 2 + 4 * 8  # after the kind, what is in it, and four columns
    assert payload[place] == 1
    payload[place] = 2
    found = decode_columns(bytes(payload), COLUMNS, terms=2, rows=1)
    assert found["has_base"].tobytes() == b"\x01"


def test_a_payload_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="the payload's kind must be from 1 to 3, got 9"):
        decode_columns(b"\x09", ["step"], terms=1, rows=1)
