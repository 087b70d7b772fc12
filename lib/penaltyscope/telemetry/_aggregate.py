"""Steps of one pipeline as the few numbers that metrics are made of."""

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import FINDINGS, Finding, StepBlock
from penaltyscope_events.names import BASE_TERM


class PipelineAggregate:
    """The last finite number of each kind, and counts since the start.

    Numbers that are not finite are counted and never shown: a gauge that is NaN does not say since
    when, and a counter does.
    """

    def __init__(self, terms: tuple[str, ...]) -> None:
        self.steps = 0
        self.gauges: dict[str, float] = {}
        """Of the pipeline: ``loss``, ``penalty``, ``base_loss``, ``gradient_norm``."""
        self.term_gauges: dict[str, dict[str, float]] = {
            kind: {} for kind in ("value", "weight", "contribution", "gradient_norm")
        }
        """By kind and term."""
        value_findings = [finding for finding in FINDINGS if finding.stage == "value"]
        self.findings: dict[tuple[str, Finding], int] = {(BASE_TERM, f): 0 for f in value_findings}
        """By term, the task loss being ``base``; counted from 0, so that the first is a rise."""
        self._know(terms)

    def observe(self, block: StepBlock) -> None:
        """Takes a block of steps in."""
        self._know(block.terms)
        self.steps += len(block)
        base = np.where(block.has_base, block.base, np.nan)
        columns = {
            "loss": np.where(block.has_base, base + block.total, block.total),
            "penalty": block.total,
            "base_loss": base,
            "gradient_norm": block.total_gradient_norm,
        }
        _keep_last_finite(self.gauges, tuple(columns), np.stack(tuple(columns.values()), axis=1))
        for kind, gauges in self.term_gauges.items():
            _keep_last_finite(gauges, block.terms, getattr(block, kind))
        self._count(block)

    def _count(self, block: StepBlock) -> None:
        for finding in FINDINGS:
            counts = ((block.flags & finding.flag) != 0).sum(axis=0)
            for term, count in zip(block.terms, counts.tolist(), strict=True):
                self.findings[term, finding] += count
            if (BASE_TERM, finding) in self.findings:
                is_so = np.isnan if finding.kind == "nan" else np.isinf
                self.findings[BASE_TERM, finding] += int(is_so(block.base[block.has_base]).sum())

    def _know(self, terms: tuple[str, ...]) -> None:
        for term in terms:
            for finding in FINDINGS:
                self.findings.setdefault((term, finding), 0)


def _keep_last_finite(
    gauges: dict[str, float], names: tuple[str, ...], numbers: NDArray[np.float64]
) -> None:
    """Updates each column's gauge with its last finite number ``[N, columns]``, if it has one."""
    finite = np.isfinite(numbers)
    last = len(numbers) - 1 - finite[::-1].argmax(axis=0)
    for column, name in enumerate(names):
        if finite[last[column], column]:
            gauges[name] = float(numbers[last[column], column])
