from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from penaltyscope_events import StepBlock
from penaltyscope_service.history._payload import decode_block, decode_columns, encode_block
from tests.service.steps import INF, NAN, ODD, SINGLES, UNHURRIED, blocks, make_steps, same_steps

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
        len(encode_block(make_steps(range(1024), ["a"], value=n, norm=n), packed=packed))
        for n in (singles, doubles)
    ]
    # Packed, that is at least value, norm and total; plain, each of the seven columns of numbers
    # but the weights, which are all the same, and the contributions, which are products.
    saved = sizes[1] - sizes[0]
    assert saved > 1024 * 4 * 3 if packed else saved == 1024 * 4 * 5


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


def test_what_follows_from_other_columns_takes_no_space_when_packed() -> None:
    random = np.random.default_rng(0).random((1024, 8)).astype(np.float32).astype(np.float64)
    block = make_steps(range(1024), [f"t{i}" for i in range(8)], value=random, norm=random)
    # Values and norms, 4 bytes each for 8 terms; the totals of 8 bytes; all else is constant.
    assert len(encode_block(block, packed=True)) < 1024 * (2 * 8 * 4 + 8) + 400


def test_a_chart_reads_only_the_columns_that_it_draws() -> None:
    block = make_steps(range(5))
    columns = decode_columns(
        encode_block(block, packed=True), ["norm", "step"][1:], terms=2, rows=5
    )
    assert list(columns) == ["step"]


def test_a_payload_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="the payload's kind must be 1 or 2, got 9"):
        decode_columns(b"\x09", ["step"], terms=1, rows=1)
