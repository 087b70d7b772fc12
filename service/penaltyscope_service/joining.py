"""Several blocks of one source made one."""

from collections.abc import Sequence

import numpy as np

from penaltyscope_events import COLUMNS, StepBlock


def join(blocks: Sequence[StepBlock]) -> StepBlock:
    """One block with the evaluations of all, in order; their names are the same."""
    first = blocks[0]
    if len(blocks) == 1:
        return first
    columns = {name: np.concatenate([getattr(b, name) for b in blocks]) for name in COLUMNS}
    return StepBlock(
        pipeline=first.pipeline, incarnation=first.incarnation, terms=first.terms, **columns
    )
