"""Where a stream went wrong first."""

from typing import Final, NamedTuple

import numpy as np

from penaltyscope_events import FINDINGS, StepBlock
from penaltyscope_events.flags import Kind, Stage
from penaltyscope_events.names import BASE_TERM

STAGES: Final[tuple[Stage, ...]] = ("input", "value", "gradient")
"""In causal order."""
KINDS: Final[tuple[Kind, ...]] = ("nan", "inf")


class FirstFinding(NamedTuple):
    """A finding; the smaller of two is the earlier one."""

    step: int
    stage: int
    """Index in ``STAGES``."""
    order: int
    """The term's place in its pipeline; the task loss comes after all terms."""
    kind: int
    """Index in ``KINDS``."""
    term: str
    time_ns: int
    """When the evaluation ended, by the job's clock."""


def first_finding(block: StepBlock) -> FirstFinding:
    """The first of all findings in a block that has some."""
    bad = block.nonfinite
    step = int(block.step[bad].min())
    rows = block.take(bad & (block.step == step))
    found: list[FirstFinding] = []
    for finding in FINDINGS:
        stage, kind = STAGES.index(finding.stage), KINDS.index(finding.kind)
        hit = (rows.flags & finding.flag) != 0
        terms = hit.any(axis=0)
        if terms.any():
            order = int(terms.argmax())
            time_ns = int(rows.stop_ns[hit[:, order]].min())
            found.append(FirstFinding(step, stage, order, kind, block.terms[order], time_ns))
    value, order = STAGES.index("value"), len(block.terms)
    for kind, hits in enumerate((np.isnan(rows.base), np.isinf(rows.base))):
        hits &= rows.has_base
        if hits.any():
            time_ns = int(rows.stop_ns[hits].min())
            found.append(FirstFinding(step, value, order, kind, BASE_TERM, time_ns))
    return min(found)
