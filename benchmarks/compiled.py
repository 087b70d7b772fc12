"""What the compiled engine costs, as ratios to plain eager evaluation, side by side.

The terms, tensors and rounds of ``engines.py``: plain (no norms at all), compiled (norms, inner
products of all gradients, ranges of the inputs, and the backward pass), and the reference's way.
``--json FILE`` also writes the rows. Compiling takes minutes before the first round.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

import penaltyscope as ps
from benchmarks.engines import (
    ELEMENTWISE,
    ENVIRONMENT,
    LARGE,
    SMALL,
    TERMS,
    Engines,
    Row,
    above,
    below,
    interleaved,
    ratio,
)
from penaltyscope.result import Statistics


class Compiled(Engines):
    """The same step by one more engine."""

    def __init__(self, terms: Sequence[ps.Term], shape: tuple[int, ...]) -> None:
        super().__init__(terms, shape)
        self._compiled = ps.Pipeline(terms, conflict=True, compile=True)

    def compiled(self) -> Statistics:
        """With norms, inner products and ranges, and the total's backward pass."""
        statistics = self._step(self._compiled)
        assert statistics.gram is not None, "it was evaluated by another engine"
        return statistics


def measured(
    terms: Sequence[ps.Term], shape: tuple[int, ...], rounds: int, bar: float, speedup: float
) -> list[Row]:
    """Both bars for one shape."""
    own = Compiled(terms, shape)
    times = interleaved({n: getattr(own, n) for n in ("plain", "compiled", "reference")}, rounds)
    where = f"{[*shape]}" + (", elastic net for orthogonality" if terms is ELEMENTWISE else "")
    return [
        below(f"compiled / plain, {where}", ratio(times, "compiled", "plain"), bar),
        above(
            f"reference's way / compiled, {where}", ratio(times, "reference", "compiled"), speedup
        ),
    ]


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description="Cost of the compiled engine.")
    parser.add_argument("--rounds", type=int, default=200, help="rounds on small tensors")
    parser.add_argument("--large", type=int, default=9, help="rounds on large tensors")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        command = [sys.executable, "-m", "benchmarks.compiled", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **ENVIRONMENT})
    torch.set_num_threads(1)
    rows = [
        row
        for terms in (TERMS, ELEMENTWISE)
        for row in (
            *measured(terms, SMALL, arguments.rounds, 0.20, 16.0),
            *measured(terms, LARGE, arguments.large, 0.11, 26.0),
        )
    ]
    for row in rows:
        met = {True: "yes", False: "no", None: ""}[row.met]
        print(f"{row.name:70}  {row.measured:>8.3f}  {row.bar or 0:>5.2f}  {met}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
