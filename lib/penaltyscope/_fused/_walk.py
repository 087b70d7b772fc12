"""A walk over the rows: a program is run for every block, and its numbers are added up."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.compiler import is_compiling

from penaltyscope._fused._blocks import block_height
from penaltyscope._fused._plan import Task
from penaltyscope._fused._product import BY_ROW, PRECISE, QUICK, Sums
from penaltyscope._norm import LEAST_SQUARE, MOST_SQUARE
from penaltyscope._scalar import Scalar, on_host, read, read_vector, wide

Given = Tensor | Scalar | None
"""A matrix, of which each block takes its rows; a scalar; None where the kind of sums is told."""


def walk(task: Task, leaves: Sequence[Given], like: Tensor, numbers: list[Scalar]) -> None:
    """Finds the numbers of a task, over all rows.

    Args:
        task: at least one number.
        leaves: what its program starts from.
        like: a matrix of those rows.
        numbers: all numbers; those of the task are written.
    """
    if not on_host(like):
        # Kernels wait for memory there, and precision costs nothing.
        sums = PRECISE | BY_ROW if is_compiling() else PRECISE
        _walk(task, leaves, like, numbers, sums)
        return
    _walk(task, leaves, like, numbers, QUICK)
    if like.dtype != torch.float64:
        for place in task.squares:
            if not LEAST_SQUARE < numbers[place] < MOST_SQUARE:
                _walk(task, leaves, like, numbers, PRECISE)
                return


def _walk(
    task: Task, leaves: Sequence[Given], like: Tensor, numbers: list[Scalar], sums: Sums
) -> None:
    given = [sums if leaf is None else leaf for leaf in leaves]
    run, count, height = task.program.run, like.shape[0], block_height(like)
    if count <= height:
        found = run(*given)
        if sums & BY_ROW:
            found = [wide(x).sum() for x in found]
        found = read(found)
    else:
        table: list[Tensor] = []
        for first in range(0, count, height):
            rows = slice(first, first + height)
            # A coefficient on a device is 0-d.
            table += run(*[x[rows] if isinstance(x, Tensor) and x.dim() else x for x in given])
        total = wide(torch.stack(table).view(-1, len(task.numbers))).sum(0)
        found = read_vector(total)
    for place, number in zip(task.numbers, found, strict=True):
        numbers[place] = number
