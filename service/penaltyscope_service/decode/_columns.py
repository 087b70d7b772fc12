"""Stop records that are laid out alike, read as columns straight from their bytes."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock, TermFlag, complete_flags
from penaltyscope_events import names as wire
from penaltyscope_service.decode._attribute import MAX_COUNT, InvalidRecordError
from penaltyscope_service.decode._layout import DOUBLE_STRIDE, Layout, Span
from penaltyscope_service.decode._record import Attributes
from penaltyscope_service.decode._step import MAX_TIME_NS, ScopeTerms, StepKey, read_key

_ARRAYS: Final = (wire.TERM_VALUE, wire.TERM_WEIGHT, wire.TERM_CONTRIBUTION, wire.TERM_GRADIENT_NORM)
_SCALARS: Final = (wire.DURATION, wire.BASE, wire.TOTAL, wire.TOTAL_GRADIENT_NORM)
_OPTIONAL: Final = (wire.BASE, wire.TOTAL_GRADIENT_NORM)
_MOST_FLAGS: Final = 2 * TermFlag.DISABLED - 1

Numbers = NDArray[np.float64]


class Run(NamedTuple):
    """Where ``count`` records are: one every ``stride`` bytes."""

    data: bytes
    start: int
    stride: int
    count: int


class KeyedSteps(NamedTuple):
    """Evaluations, and what they have in common."""

    key: StepKey
    steps: StepBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where in a stop record each column of a block is, in bytes from the record's begin."""

    attributes: Attributes
    """Of a record that is equal but for its numbers."""
    terms: int
    times: tuple[int, ...]
    step: Span
    seq: Span
    scalars: tuple[int | None, ...]
    """Duration, base, total, norm of the total's gradient."""
    arrays: tuple[int, ...]
    """First elements of value, weight, contribution, gradient norm."""
    flags: tuple[Span, ...] | None

    @classmethod
    def of(cls, layout: Layout, attributes: Attributes) -> Self | None:
        """Nothing if a column is missing that cannot be missing, or is not laid out like one."""
        spans = [layout.double_arrays.get(name) for name in _ARRAYS]
        arrays = [span for span in spans if span is not None]
        sizes = {span.stop - span.start for span in arrays}
        scalars = [layout.doubles.get(name) for name in _SCALARS]
        stray = any(
            place is None and (name in attributes or name not in _OPTIONAL)
            for name, place in zip(_SCALARS, scalars, strict=True)
        )
        flags = layout.integer_arrays.get(wire.TERM_FLAGS)
        if (
            stray
            or len(arrays) != len(_ARRAYS)
            or len(sizes) != 1
            or not {wire.STEP, wire.SEQ} <= layout.integers.keys()
            or (flags is None and wire.TERM_FLAGS in attributes)
        ):
            return None
        terms = sizes.pop() // DOUBLE_STRIDE
        if flags is not None and len(flags) != terms:
            return None
        return cls(
            attributes=attributes,
            terms=terms,
            times=layout.times,
            step=layout.integers[wire.STEP],
            seq=layout.integers[wire.SEQ],
            scalars=tuple(scalars),
            arrays=tuple(span.start + DOUBLE_STRIDE - 8 for span in arrays),
            flags=flags,
        )

    def read(self, run: Run, terms: ScopeTerms, received_ns: int) -> KeyedSteps | None:
        """All records of a run; nothing where one of them has to be refused."""
        try:
            key = read_key(self.attributes, terms)
        except InvalidRecordError:
            return None
        if len(key.terms) != self.terms:
            return None
        duration, base, total, total_norm = (_scalar(run, place) for place in self.scalars)
        step, seq = _integers(run, self.step), _integers(run, self.seq)
        times, flags = self._times(run, received_ns), self._flags(run)
        usable = (
            duration.min() >= 0  # NaN is not, either
            and duration.max() < np.inf
            and max(step.max(), seq.max()) <= MAX_COUNT
            and times.max() <= MAX_TIME_NS
            and (self.flags is None or flags.max() <= _MOST_FLAGS)
        )
        if not usable:
            return None
        value, weight, contribution, norm = (_matrix(run, at, self.terms) for at in self.arrays)
        if self.flags is not None or not (np.isfinite(value).all() and np.isfinite(norm).all()):
            flags = complete_flags(flags, value, norm)
        steps = StepBlock(
            pipeline=key.pipeline,
            incarnation=key.incarnation,
            terms=key.terms,
            step=step,
            seq=seq,
            stop_ns=times.astype(np.int64),
            duration=duration,
            base=base,
            has_base=np.full(run.count, wire.BASE in self.attributes),
            total=total,
            total_gradient_norm=total_norm,
            value=value,
            weight=weight,
            contribution=contribution,
            gradient_norm=norm,
            flags=flags,
        )
        return KeyedSteps(key, steps)

    def _times(self, run: Run, received_ns: int) -> NDArray[np.uint64]:
        """The first that is not zero of the record's times, else when it was received."""
        times = np.zeros(run.count, np.uint64)
        for place in self.times:
            if times.all():
                break
            times = np.where(times == 0, _view(run, place, "<u8"), times)
        return times if times.all() else np.where(times == 0, np.uint64(received_ns), times)

    def _flags(self, run: Run) -> NDArray[np.int32]:
        flags = np.zeros((run.count, self.terms), np.int32)
        for i, span in enumerate(self.flags or ()):
            flags[:, i] = np.minimum(_integers(run, span), _MOST_FLAGS + 1)
        return flags


def _view(run: Run, place: int, dtype: str) -> NDArray[Any]:
    """``[N]``, one number of each record."""
    return np.ndarray((run.count,), dtype, run.data, run.start + place, (run.stride,))


def _scalar(run: Run, place: int | None) -> Numbers:
    """``[N]``: doubles; NaN where the attribute is missing."""
    if place is None:
        return np.full(run.count, np.nan)
    return _view(run, place, "<f8").astype(np.float64)


def _matrix(run: Run, place: int, terms: int) -> Numbers:
    """``[N, T]``: the doubles of an array."""
    view: NDArray[Any] = np.ndarray(
        (run.count, terms), "<f8", run.data, run.start + place, (run.stride, DOUBLE_STRIDE)
    )
    return view.astype(np.float64)


def _integers(run: Run, span: Span) -> NDArray[np.int64]:
    """``[N]``: varints of equal width, none of more than nine bytes."""
    numbers = np.zeros(run.count, np.int64)
    for i, place in enumerate(range(span.start, span.stop)):
        numbers |= (_view(run, place, "u1") & 0x7F).astype(np.int64) << 7 * i
    return numbers
