"""The arithmetic behind a plan's numbers as matrices, so that a graph has few operations for it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from penaltyscope._fused import Form, Numbers, Plan


class Tables(NamedTuple):
    """Constants of a graph, for ``F`` calls, ``K`` numbers and ``S`` tensors with gradients.

    In ``matrix`` and ``fields`` a 0 means that the number does not count, whatever it is.
    """

    matrix: Tensor
    """``[F + SF + S, K]``: values up to factors; squared norms by tensor and call; of totals."""
    fields: Sequence[Tensor]
    """For each of the S tensors ``[F, m]``: how slopes are made of its fields."""
    products: Sequence[Tensor]
    """For each of the S tensors ``[m, m]``: positions of the fields' inner products."""


def make_tables(
    plan: Plan, fields: Mapping[int, Sequence[int]], device: torch.device, *, gram: bool
) -> Tables:
    """The tables of a plan.

    Args:
        plan: of the calls.
        fields: by tensor those that its slopes are made of.
        device: where they are needed.
        gram: whether the plan has all of the fields' inner products.
    """
    order = [place for task in (*plan.early, *plan.main) for place in task.numbers]
    position = {place: i for i, place in enumerate(order)}
    row = {call: i for i, call in enumerate(plan.forms)}
    squares: dict[tuple[int, int], Numbers] = {(s.tensor, s.call): s.square for s in plan.slopes}
    lines = [
        plan.sums[call] if isinstance(form, Form) and form.settle is None else ()
        for call, form in plan.forms.items()
    ]
    lines += [squares.get((x, call), ()) for x in fields for call in plan.forms]
    lines += [((1.0, plan.squares[x]),) for x in fields]
    matrix = torch.zeros(len(lines), len(order), dtype=torch.float64)
    for line, numbers in zip(matrix, lines, strict=True):
        for coefficient, place in numbers:
            line[position[place]] += coefficient
    parts = {x: torch.zeros(len(row), len(own), dtype=torch.float64) for x, own in fields.items()}
    for slope in plan.slopes:
        for coefficient, field in slope.parts:
            parts[slope.tensor][row[slope.call], fields[slope.tensor].index(field)] += coefficient
    products = [
        torch.tensor([[position[plan.products[x, f, g]] for g in own] for f in own])
        for x, own in (fields.items() if gram else ())
    ]
    return Tables(
        matrix.to(device),
        [part.to(device) for part in parts.values()],
        [places.to(device) for places in products],
    )
