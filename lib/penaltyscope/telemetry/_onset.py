"""Where a pipeline begins to be not finite."""

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock


class Onset:
    """Finds the steps that are not finite after one that was; a run that goes NaN stays so."""

    def __init__(self) -> None:
        self._was_finite: dict[str, bool] = {}

    def find(self, block: StepBlock) -> NDArray[np.bool_]:
        """``[N]``, for the next block of a pipeline."""
        if not len(block):
            return np.zeros(0, bool)
        finite = ~block.nonfinite
        before = np.concatenate(([self._was_finite.get(block.pipeline, True)], finite[:-1]))
        self._was_finite[block.pipeline] = bool(finite[-1])
        onset: NDArray[np.bool_] = before & ~finite
        return onset
