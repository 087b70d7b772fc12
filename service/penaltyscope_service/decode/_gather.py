"""Numbers out of records that lie at equal distances, checked on the way."""

from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import ALL_FLAGS, TermFlag
from penaltyscope_service.decode._attribute import MAX_COUNT
from penaltyscope_service.decode._layout import DOUBLE_STRIDE
from penaltyscope_service.kernel import BYTES, kernel, part

# What was compiled would not notice a change of these elsewhere; being on the wire, they have none.
_MOST: Final = MAX_COUNT
_STRIDE: Final = DOUBLE_STRIDE
_HEAD: Final = DOUBLE_STRIDE - 8
_ALL_FLAGS: Final = int(ALL_FLAGS)
_DISABLED: Final = int(TermFlag.DISABLED)
_NOT_MEASURED: Final = int(TermFlag.NORM_NOT_MEASURED)
_VALUE_NAN: Final = int(TermFlag.VALUE_NAN)
_VALUE_INF: Final = int(TermFlag.VALUE_INF)
_GRADIENT_NAN: Final = int(TermFlag.GRADIENT_NAN)
_GRADIENT_INF: Final = int(TermFlag.GRADIENT_INF)

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
"""``[12 + F, 2]``: where a record's numbers begin and end, zeros for those that are not sent.

In this order: the record's own time, the time at which it was observed; step, number; duration,
task loss, total, norm of its gradient; values, weights, contributions, norms, of all terms each;
and the flags of each term, of which there are none if they are not sent.
"""
_STEP, _SEQ, _SCALARS, _BASE, _ARRAYS, _FLAGS = 2, 3, 4, 5, 8, 12


@part(types.uint64(BYTES, types.int64))
def _bits(data: Bytes, start: int) -> Any:  # noqa: ANN401  # an integer without a sign
    # Such indices cannot count from the end, so that this becomes one read of eight bytes.
    first, bits = np.uint64(start), np.uint64(0)
    for i in range(8):
        bits |= np.uint64(data[first + np.uint64(i)]) << np.uint64(8 * i)
    return bits


@part(types.void(BYTES, types.int64, types.float64[::1]))
def _read_doubles(data: Bytes, start: int, numbers: NDArray[np.float64]) -> None:
    for i in range(len(numbers)):
        bits = _bits(data, start + i * _STRIDE)
        numbers[i] = np.uint64(bits).view(np.float64)


@part(types.int64(BYTES, types.int64[::1]))
def _varint(data: Bytes, place: NDArray[np.int64]) -> int:
    number = 0
    for i in range(place[1] - place[0]):
        number |= int(data[place[0] + i] & 0x7F) << (7 * i)
    return number


@part(types.int64(BYTES, types.int64[:, ::1], types.int64))
def _time(record: Bytes, places: Places, received_ns: int) -> int:
    """The first that is not zero."""
    for i in range(_STEP):
        time = int(np.int64(_bits(record, places[i, 0]))) if places[i, 1] else 0
        if time != 0:
            return time
    return received_ns


@part(types.boolean(BYTES, types.int64[:, ::1], types.int32[::1]))
def _read_flags(record: Bytes, places: Places, flags: NDArray[np.int32]) -> bool:
    """Whether all of them have a meaning."""
    flags[:] = 0
    for i in range(_FLAGS, len(places)):
        bits = _varint(record, places[i])
        if bits > _ALL_FLAGS:
            return False
        flags[i - _FLAGS] = bits
    return True


@part(types.int32(types.int32, types.float64, types.float64))
def _completed(flags: int, value: float, norm: float) -> int:
    if flags & _DISABLED:
        return flags
    if np.isnan(value):
        flags |= _VALUE_NAN
    elif np.isinf(value):
        flags |= _VALUE_INF
    if flags & _NOT_MEASURED:
        return flags
    if np.isnan(norm):
        flags |= _GRADIENT_NAN
    elif np.isinf(norm):
        flags |= _GRADIENT_INF
    return flags


@part(types.void(types.float64[::1], types.float64[::1], types.int32[::1]))
def _complete(
    value: NDArray[np.float64], norm: NDArray[np.float64], flags: NDArray[np.int32]
) -> None:
    """As :func:`~penaltyscope_events.complete_flags` does it."""
    finite = True
    for term in range(len(flags)):
        finite &= np.isfinite(value[term]) & np.isfinite(norm[term])
    if not finite:
        for term in range(len(flags)):
            flags[term] = _completed(flags[term], value[term], norm[term])


@kernel(
    types.boolean(
        *(BYTES, types.int64, types.int64, types.int64[:, ::1], types.int64),
        *(types.int64[:, ::1], types.float64[:, ::1], types.boolean[::1]),
        *(types.float64[:, :, ::1], types.int32[:, ::1]),
    )
)
def gather(
    data: Bytes,
    start: int,
    stride: int,
    places: Places,
    received_ns: int,
    integers: NDArray[np.int64],
    scalars: NDArray[np.float64],
    has_base: NDArray[np.bool_],
    arrays: NDArray[np.float64],
    flags: NDArray[np.int32],
) -> bool:
    """Fills columns with the numbers of ``N`` records, whose bits stay as they were sent.

    Args:
        data: of which ``N`` times ``stride`` bytes follow ``start``.
        start: where the first record begins.
        stride: from one record to the next.
        places: where the numbers of a record are, within ``stride``.
        received_ns: the time of records that carry none.
        integers: ``[3, N]``: step, number, time.
        scalars: ``[4, N]``, in the order of their places; NaN for what is not sent.
        has_base: ``[N]``.
        arrays: ``[4, N, T]``, in the order of their places.
        flags: ``[N, T]``, those that follow from the numbers among them.

    Returns:
        Whether no record has to be refused; otherwise the columns mean nothing.
    """
    has_base[:] = places[_BASE, 1] > 0
    for row in range(len(flags)):
        record = data[start + row * stride : start + (row + 1) * stride]
        step, seq = _varint(record, places[_STEP]), _varint(record, places[_SEQ])
        time = _time(record, places, received_ns)
        integers[0, row], integers[1, row], integers[2, row] = step, seq, time
        for i in range(len(scalars)):
            sent = places[_SCALARS + i, 1] > 0
            _read_doubles(record, places[_SCALARS + i, 0], scalars[i, row : row + sent])
            if not sent:
                scalars[i, row] = np.nan
        for i in range(len(arrays)):
            _read_doubles(record, places[_ARRAYS + i, 0] + _HEAD, arrays[i, row])
        if time < 0 or max(step, seq) > _MOST or not 0 <= scalars[0, row] < np.inf:
            return False
        if not _read_flags(record, places, flags[row]):
            return False
        _complete(arrays[0, row], arrays[3, row], flags[row])
    return True
