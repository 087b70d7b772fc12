"""Steps with the numbers that a test is about, and arbitrary ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from penaltyscope_events import COLUMNS, StepBlock, TermFlag, complete_flags

UNHURRIED = settings(deadline=None)
"""For tests of properties: how long one example takes says nothing on a busy machine."""
NAN, INF = float("nan"), float("inf")


def make_steps(
    seq: Sequence[int],
    terms: Sequence[str] = ("a", "b"),
    *,
    step: ArrayLike | None = None,
    stop_ns: ArrayLike | None = None,
    duration: ArrayLike = 0.01,
    base: ArrayLike | None = 1.0,
    value: ArrayLike = 2.0,
    weight: ArrayLike = 0.5,
    norm: ArrayLike = 1.0,
    total_norm: ArrayLike = 3.0,
    flags: ArrayLike = 0,
    pipeline: str = "p",
    incarnation: str = "first",
) -> StepBlock:
    """Evaluations with these numbers; whatever is given once is the same for all of them."""
    rows, shape = (len(seq),), (len(seq), len(terms))

    def column(
        numbers: ArrayLike, shape: tuple[int, ...], dtype: type = np.float64
    ) -> NDArray[Any]:
        return np.broadcast_to(np.asarray(numbers, dtype), shape).copy()

    numbers, weights, norms = column(value, shape), column(weight, shape), column(norm, shape)
    known = column(flags, shape, np.int32)
    disabled = (known & TermFlag.DISABLED) != 0
    with np.errstate(invalid="ignore", over="ignore"):
        contribution = np.where(disabled, 0.0, numbers * weights)
        total = contribution.sum(axis=1)
    first = np.asarray(seq, np.int64)
    return StepBlock(
        pipeline=pipeline,
        incarnation=incarnation,
        terms=tuple(terms),
        step=first.copy() if step is None else column(step, rows, np.int64),
        seq=first,
        stop_ns=first * 10**8 + 10**18 if stop_ns is None else column(stop_ns, rows, np.int64),
        duration=column(duration, rows),
        base=column(NAN if base is None else base, rows),
        has_base=np.full(rows, base is not None),
        total=total,
        total_gradient_norm=column(total_norm, rows),
        value=numbers,
        weight=weights,
        contribution=contribution,
        gradient_norm=norms,
        flags=complete_flags(known, numbers, norms),
    )


def same_steps(a: StepBlock, b: StepBlock) -> bool:
    """Whether two blocks are the same to the last bit, names and types too."""
    names = (a.pipeline, a.incarnation, a.terms) == (b.pipeline, b.incarnation, b.terms)
    return names and all(_same(getattr(a, name), getattr(b, name)) for name in COLUMNS)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


BITS = st.integers(0, 2**64 - 1).map(lambda bits: float(np.uint64(bits).view(np.float64)))
"""Every double there is, NaN with any payload among them."""
SINGLES = st.floats(width=32)
ODD = st.sampled_from([0.0, -0.0, NAN, -NAN, INF, -INF, 5e-324, 1.7976931348623157e308])
ANY = st.one_of(BITS, SINGLES, ODD)
SECONDS = st.one_of(
    st.floats(0, 1e4), st.integers(0, 10**13).map(lambda ns: ns / 1e9), st.just(1e300)
)


@st.composite
def blocks(
    draw: st.DrawFn,
    *,
    numbers: st.SearchStrategy[float] = ANY,
    max_rows: int = 12,
    max_terms: int = 4,
) -> StepBlock:
    """Blocks of any numbers, in no order, flagged as a receiver flags them."""
    rows = draw(st.integers(1, max_rows))
    terms = draw(st.integers(1, max_terms))
    int64 = st.integers(0, 2**63 - 1)

    def floats(count: int) -> NDArray[np.float64]:
        return np.array(draw(st.lists(numbers, min_size=count, max_size=count)))

    def integers(count: int, some: st.SearchStrategy[int]) -> NDArray[np.int64]:
        return np.array(draw(st.lists(some, min_size=count, max_size=count)), np.int64)

    shape = (rows, terms)
    value, norm = floats(rows * terms).reshape(shape), floats(rows * terms).reshape(shape)
    flags = integers(rows * terms, st.sampled_from([0, 0, 0, 16, 32, 64, 128])).reshape(shape)
    return StepBlock(
        pipeline="p",
        incarnation="first",
        terms=tuple(f"term {i}" for i in range(terms)),
        step=integers(rows, st.integers(0, 20)) if draw(st.booleans()) else integers(rows, int64),
        seq=np.array(draw(st.permutations(range(rows))), np.int64),
        stop_ns=integers(rows, int64),
        duration=np.array([draw(SECONDS) for _ in range(rows)]),
        base=floats(rows),
        has_base=integers(rows, st.integers(0, 1)).astype(np.bool_),
        total=floats(rows),
        total_gradient_norm=floats(rows),
        value=value,
        weight=floats(rows * terms).reshape(shape),
        contribution=floats(rows * terms).reshape(shape),
        gradient_norm=norm,
        flags=complete_flags(flags.astype(np.int32), value, norm),
    )
