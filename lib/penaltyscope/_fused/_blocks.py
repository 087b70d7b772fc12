"""Blocks of rows, small enough for their fields to stay in the cache."""

from collections.abc import Iterable

from torch import Tensor

from penaltyscope._scalar import on_host

_ELEMENTS = 1 << 16
"""Of a block on the CPU; other devices take all rows at once."""


def block_height(matrix: Tensor) -> int:
    """How many rows of a matrix make a block."""
    return max(1, _ELEMENTS // matrix.shape[1]) if on_host(matrix) else matrix.shape[0]


def blocks(*matrices: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Matrices of equally many rows, block by block."""
    height = block_height(matrices[0])
    if matrices[0].shape[0] <= height:
        return [matrices]
    return zip(*(x.split(height) for x in matrices), strict=True)
