"""Steps as nearly all are, in what their records need and no more.

For the steps of a second, making arrays of what they have in common costs more than encoding them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events.block import StepBlock


@dataclass(slots=True, kw_only=True)
class PlainSteps:
    """``N`` evaluations of one pipeline with ``T`` terms, all finite and none with a flag.

    What is not explained is as in a block.
    """

    pipeline: str
    incarnation: str
    terms: tuple[str, ...]
    weights: tuple[float, ...]
    """The same at all steps."""
    has_base: bool
    step: NDArray[np.int64] | range
    """A range costs least, where they are one after the other."""
    seq: NDArray[np.int64] | range
    cells: NDArray[np.float64]
    """``[N, 6 + 3 * T]``: start and stop, which are int64 all the same; ``duration``, ``base``,
    ``total``, ``total_gradient_norm``; of the terms ``value``, ``contribution`` and
    ``gradient_norm``."""

    def __len__(self) -> int:
        return len(self.cells)

    def block(
        self,
        weight: NDArray[np.float64] | None = None,
        flags: NDArray[np.int32] | None = None,
    ) -> StepBlock:
        """The same as columns; with weights ``[N, T]`` and flags, steps that are not plain."""
        count, terms, cells = len(self), len(self.terms), self.cells
        weight = np.array(self.weights, np.float64) if weight is None else weight
        return StepBlock(
            pipeline=self.pipeline,
            incarnation=self.incarnation,
            terms=self.terms,
            step=np.asarray(self.step, np.int64),
            seq=np.asarray(self.seq, np.int64),
            stop_ns=cells.view(np.int64)[:, 1],
            duration=cells[:, 2],
            base=cells[:, 3],
            has_base=np.full(count, self.has_base),
            total=cells[:, 4],
            total_gradient_norm=cells[:, 5],
            value=cells[:, 6 : 6 + terms],
            weight=np.broadcast_to(weight, (count, terms)),
            contribution=cells[:, 6 + terms : 6 + 2 * terms],
            gradient_norm=cells[:, 6 + 2 * terms :],
            flags=np.zeros((count, terms), np.int32) if flags is None else flags,
        )
