"""A large block as few bytes, none of whose bits is lost.

Stored are the length of the first of two Zstandard frames (4 bytes), and both frames. The first has
the forms of what is predicted, the heads of all rows, the patches, and the highest bits of every
residue, which an entropy code makes shorter; the second has the other bits, mostly noise.
"""

import struct
import sys
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.history._matrix import from_matrix, needed_rows, row_count, to_matrix
from penaltyscope_service.history._planes import pack_planes, unpack_planes
from penaltyscope_service.history._residue import HEAD, Patches, grow, shrink

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LENGTH: Final = struct.Struct("<I")
_OPTIONS: Final[Mapping[int, int]] = {
    zstd.CompressionParameter.compression_level: 1,
    # Of so few different numbers, shorter matches are chance, and cost more than they save.
    zstd.CompressionParameter.min_match: 7,
}


def encode_packed(block: StepBlock) -> bytes:
    """The block's columns."""
    rows, forms = to_matrix(block)
    heads, residues, noise, high, patches = shrink(rows)
    count = np.array([len(patches.places)], "<u4")
    parts = (count, forms, heads, patches.places, patches.residues, high)
    first = _compress(b"".join([part.data for part in parts]))
    second = _compress(pack_planes(residues, noise))
    return b"".join((_LENGTH.pack(len(first)), first, second))


def decode_packed(
    data: memoryview, names: Collection[str], *, terms: int, rows: int
) -> dict[str, NDArray[Any]]:
    """Some columns of the block that was encoded.

    Raises:
        ValueError: if the data is not what was encoded.
    """
    stop = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    try:
        first, planes = zstd.decompress(data[_LENGTH.size : stop]), zstd.decompress(data[stop:])
    except zstd.ZstdError as error:
        raise ValueError(f"a packed block must be two Zstandard frames: {error}.") from error
    parts = _Parts(first)
    count = int(parts.take("<u4", 1)[0])
    forms, heads = parts.take("u1", terms + 2), parts.take(HEAD, row_count(terms))
    patches = Patches(parts.take("<u4", count), parts.take("<u8", count))
    needed, active = needed_rows(names, terms), heads["width"] > 0
    if rows > 1 and not active.any():
        raise ValueError(f"numbers of one row are not those of {rows}: each has a seq of its own.")
    chosen = needed[active]
    high = parts.take("u1", -1).reshape(len(chosen), rows)[chosen]
    noise = heads["noise"][active].astype(np.uint64)
    residues = unpack_planes(planes, noise, rows, chosen)
    residues |= high << noise[chosen, None]
    _put_back(patches, residues, chosen)
    numbers = np.empty((np.count_nonzero(needed), rows), np.int64)
    numbers[:] = heads["origin"][needed, None]
    numbers[active[needed]] = grow(heads[active & needed], residues)
    return from_matrix(numbers, forms, names, terms)


class _Parts:
    """Arrays that lie one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = 0

    def take(self, dtype: DTypeLike, count: int) -> NDArray[Any]:
        """The next one; with a count of -1, all that is left."""
        part = np.frombuffer(self._data, dtype, count, self._start)
        self._start += part.nbytes
        return part


def _put_back(patches: Patches, residues: NDArray[np.uint64], chosen: NDArray[np.bool_]) -> None:
    """Those of the chosen rows."""
    row, column = np.divmod(patches.places, residues.shape[1])
    here = chosen[row]
    place = np.cumsum(chosen) - 1
    residues[place[row[here]], column[here]] = patches.residues[here]


def _compress(data: bytes) -> bytes:
    """One frame."""
    compressor = _compressor()
    return compressor.compress(data, compressor.FLUSH_FRAME)


@cache
def _compressor() -> zstd.ZstdCompressor:
    """The one that all threads take turns with: to make it takes longer than to use it."""
    return zstd.ZstdCompressor(options=_OPTIONS)
