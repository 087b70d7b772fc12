"""From the numbers of single evaluations to columns. Runs on the recorder's thread.

It takes the interpreter from the training thread: so most is done for all steps and terms at once,
and what a run that is finite does not need is skipped.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from penaltyscope.result import Layout, Statistics
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._digits import (
    OF_A_NORM,
    OF_A_NUMBER,
    OF_AN_INTEGER,
    Patterns,
    patterns,
    round_off,
)
from penaltyscope.telemetry._rows import STAMP, Stretch, brought_width, weights_on_device
from penaltyscope.telemetry._spanned import traces
from penaltyscope.telemetry._transfer import Numbers
from penaltyscope_events import PlainSteps, TermFlag, complete_flags

_NOT_MEASURED = int(TermFlag.NORM_NOT_MEASURED)  # arithmetic of flags costs more than of arrays
_ORDINARY = 1e300
"""Far below the largest double."""
_LARGE_SCALE = 256.0
"""A gradient scaler starts at 65,536; what people multiply a loss by themselves is smaller."""


def steps_of(rows: Stretch, cells: Numbers, incarnation: str) -> Steps:
    """The steps of one stretch, whose cells were gathered and brought here."""
    first = rows.statistics[0]
    layout, ordinary = first.layout, is_ordinary(cells)
    plan = plan_of(layout, first.has_base, first.dtype)
    # Side by side, so that all are taken over and rounded at once.
    sheet = cells.take(plan.order, axis=1)
    weight, flags = _complete(rows, cells, sheet, finite=ordinary)
    if plan.patterns is not None:
        round_off(sheet, plan.patterns, ordinary=ordinary)
    plain = PlainSteps(
        pipeline=rows.pipelines[0].name,
        incarnation=incarnation,
        terms=layout.terms,
        weights=(),
        has_base=first.has_base,
        step=cells.view(np.int64)[:, 0],
        seq=np.array(rows.seq, np.int64),
        cells=sheet,
    )
    return Steps(plain.block(weight, flags), *traces(rows.contexts))


class Plan(NamedTuple):
    """What is made of the cells of one layout."""

    order: NDArray[np.intp]
    """For each column of a sheet the cell that it begins with, where there is one."""
    steady: bool
    """Whether every term counts and is measured, and nothing has to be put together."""
    patterns: Patterns | None
    """To round a sheet by; None where all digits count."""


@lru_cache(maxsize=64)
def plan_of(layout: Layout, has_base: bool, dtype: torch.dtype) -> Plan:
    """The columns of a sheet are those of ``PlainSteps.cells``."""
    terms = len(layout.terms)
    bits = (
        *(OF_AN_INTEGER, OF_AN_INTEGER, OF_A_NORM),
        *(OF_A_NUMBER, OF_A_NUMBER, OF_A_NORM),
        *(OF_A_NUMBER,) * 2 * terms,
        *(OF_A_NORM,) * terms,
    )
    return Plan(
        order=_order(layout, has_base),
        steady=not layout.tapped
        and len(layout.known_sums) == 1
        and all(layout.active)
        and all(layout.measured),
        patterns=None if dtype is torch.float64 else patterns(bits),
    )


def _order(layout: Layout, has_base: bool) -> NDArray[np.intp]:
    terms, norms, sums = (STAMP + sum(layout.parts[:n]) for n in (1, 2, 3))
    total = STAMP + sum(layout.parts)
    norm_of = {term: norms + i for i, (term, _) in enumerate(layout.known)}
    scalars = 1, 2, 3, total + has_base, total, sums
    values = range(STAMP, terms)
    known = (norm_of.get(term, 0) for term in range(len(values)))
    return np.array((*scalars, *values, *values, *known), np.intp)


def is_ordinary(cells: Numbers) -> bool:
    """Whether all are finite, and so far from infinite that rounding leaves them so.

    Times are, read as float64: they are tiny.
    """
    # A NaN is the least and the largest. A scalar product might wake the threads of a BLAS.
    least, most = cells.item(cells.argmin()), cells.item(cells.argmax())
    return least > -_ORDINARY and most < _ORDINARY


def _complete(
    rows: Stretch, cells: Numbers, sheet: Numbers, *, finite: bool
) -> tuple[Numbers, NDArray[np.int32]]:
    """Fills in what is not the same for all steps; returns their weights and flags."""
    statistics = rows.statistics[0]
    layout = statistics.layout
    parts = _split(statistics, cells[:, STAMP:])
    columns = _columns(sheet, len(layout.terms))
    weights = _weights(rows, parts.weights)
    _contribute(layout, weights, columns)
    measured = _measure(layout, weights, parts, columns)
    flags = _known_flags(layout, parts, finite=finite)
    if not finite:
        measured = _without_overflow(layout, parts, columns, measured, flags)
    if not (whole := measured.all()):
        flags |= np.where(measured, 0, _NOT_MEASURED).astype(np.int32)
        np.copyto(columns.gradient_norm, np.nan, where=~measured)
    if layout.tapped or not (finite and whole):
        flags = complete_flags(flags, columns.value, columns.gradient_norm)
    return weights, flags


class _Columns(NamedTuple):
    """Views of a sheet."""

    value: Numbers
    contribution: Numbers
    gradient_norm: Numbers
    total_gradient_norm: Numbers


def _columns(sheet: Numbers, terms: int) -> _Columns:
    return _Columns(
        value=sheet[:, 6 : 6 + terms],
        contribution=sheet[:, 6 + terms : 6 + 2 * terms],
        gradient_norm=sheet[:, 6 + 2 * terms :],
        total_gradient_norm=sheet[:, 5],
    )


class _Parts(NamedTuple):
    """The forward pass's row, weights on the device, and the backward pass's row."""

    value: Numbers
    extremes: Numbers
    norms: Numbers
    sums: Numbers
    totals: Numbers
    weights: Numbers
    brought: Numbers


def _split(statistics: Statistics, numbers: Numbers) -> _Parts:
    values, extremes, norms, sums = statistics.layout.parts
    lengths = values, extremes, norms, sums, 1 + statistics.has_base
    held = len(weights_on_device(statistics))
    parts, start = [], 0
    for length in (*lengths, held, brought_width(statistics.layout)):
        parts.append(numbers[:, start : start + length])
        start += length
    if start > numbers.shape[1]:
        parts[-1] = np.zeros((len(numbers), brought_width(statistics.layout)))
    return _Parts(*parts)


def _weights(rows: Stretch, held: Numbers) -> Numbers:
    """``[N, T]``, or ``[1, T]`` where all are the same."""
    each, first = rows.weights, rows.weights[0]
    on_device = weights_on_device(rows.statistics[0])
    if not on_device:
        same = each.count(first) == len(each)
        return np.array([first] if same else each, np.float64).reshape(-1, len(first))
    weights = np.empty((len(each), len(first)))
    weights[:, on_device] = held
    for term in set(range(len(first))) - set(on_device):
        weights[:, term] = [row[term] for row in each]
    return weights


def _contribute(layout: Layout, weights: Numbers, columns: _Columns) -> None:
    """Makes contributions of values."""
    with np.errstate(invalid="ignore"):  # 0 * inf, where the product does not count
        np.multiply(columns.value, weights, out=columns.contribution)
    counts = _mask(layout.active) & (weights != 0)
    if not counts.all():
        np.copyto(columns.contribution, 0.0, where=~counts)


def _measure(
    layout: Layout, weights: Numbers, parts: _Parts, columns: _Columns
) -> NDArray[np.bool_]:
    """Completes the norms that are made of several numbers.

    Returns:
        Where the terms' norms were measured: ``[N, T]``, or ``[1, T]`` if that is always the same.
    """
    measured: NDArray[np.bool_] = _mask(layout.measured) & (weights != 0)
    if not layout.tensors:
        columns.total_gradient_norm[...] = np.nan
    if not layout.tapped and len(layout.known_sums) <= 1:
        return measured
    norms = columns.gradient_norm
    norms[...] = 0.0
    _add(norms, layout.known, parts.norms)
    squares = np.square(parts.sums).sum(axis=1)
    if layout.tapped:
        terms = [term for term, _ in layout.tapped]
        scale = parts.brought[:, -1:]
        measured = measured & np.ones((len(norms), 1), bool)
        measured[:, terms] &= scale != 0
        with np.errstate(divide="ignore", invalid="ignore"):  # only where it was not measured
            _add(norms, layout.tapped, parts.brought[:, : len(terms)] / (weights[:, terms] * scale))
            squares += np.square(parts.brought[:, len(terms) : -1] / scale).sum(axis=1)
        squares[scale[:, 0] == 0] = np.nan
    columns.total_gradient_norm[...] = np.sqrt(squares)
    return measured


def _add(norms: Numbers, places: Sequence[tuple[int, int]], parts: Numbers) -> None:
    """Makes the parts, which belong to different tensors, part of their terms' norms."""
    terms = [term for term, _ in places]
    if len(set(terms)) == len(terms):
        norms[:, terms] = np.hypot(norms[:, terms], parts)
        return
    for column, term in enumerate(terms):
        norms[:, term] = np.hypot(norms[:, term], parts[:, column])


def _known_flags(layout: Layout, parts: _Parts, *, finite: bool) -> NDArray[np.int32]:
    flags = np.zeros(parts.value.shape, np.int32)
    if not all(layout.enabled):
        flags[:, ~_mask(layout.enabled)] = TermFlag.DISABLED
    if finite or np.isfinite(parts.extremes).all():
        return flags
    lowest, highest = parts.extremes[:, ::2], parts.extremes[:, 1::2]
    for term, inputs in enumerate(layout.inputs):
        if not inputs or not layout.enabled[term]:
            continue
        low, high = lowest[:, inputs], highest[:, inputs]
        infinite = high == np.inf
        if not layout.allows_negative_infinity[term]:
            infinite |= low == -np.inf
        flags[np.isnan(low).any(axis=1), term] |= TermFlag.INPUT_NAN
        flags[infinite.any(axis=1), term] |= TermFlag.INPUT_INF
    return flags


def _without_overflow(
    layout: Layout,
    parts: _Parts,
    columns: _Columns,
    measured: NDArray[np.bool_],
    flags: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Flags gradients that are most likely not finite for their loss scale alone.

    A gradient scaler skips such a step and halves the scale, so one that has another reason goes on
    until the scale is small, and is a finding then.

    Returns:
        Where the others were measured.
    """
    if not layout.tapped or np.isfinite(parts.brought).all():
        return measured
    terms = [term for term, _ in layout.tapped]
    large = np.abs(parts.brought[:, -1:]) >= _LARGE_SCALE
    overflow = np.zeros(parts.value.shape, bool)
    overflow[:, terms] = large & np.isfinite(parts.value[:, terms])
    overflow &= measured & ~np.isfinite(columns.gradient_norm)
    flags[overflow] |= TermFlag.GRADIENT_OVERFLOW
    columns.total_gradient_norm[overflow.any(axis=1)] = np.nan
    return measured & ~overflow


@lru_cache(maxsize=64)
def _mask(terms: tuple[bool, ...]) -> NDArray[np.bool_]:
    return np.array(terms, bool)
