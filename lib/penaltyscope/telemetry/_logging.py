"""Evaluations in the log of the process."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._onset import Onset
from penaltyscope.telemetry._sink import Sink, Source
from penaltyscope_events import FINDINGS, Event, StepBlock, names


@dataclass(frozen=True, slots=True)
class Logging(Sink):
    """One line for every so many steps of a pipeline, and one when something is not finite.

    Lines are written from a background thread, about a second after the step: no step waits for
    the device.
    """

    every_steps: int = 100
    level: int = logging.INFO
    """Of the regular lines; what is not finite is a warning, and an exception is an error."""
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("penaltyscope.steps"))

    def open(self, source: Source) -> "LogChannel":  # noqa: ARG002  # of the protocol
        """A channel that writes lines.

        Raises:
            ValueError: the number of steps makes no sense.
        """
        if self.every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {self.every_steps}.")
        return LogChannel(self.logger, self.level, self.every_steps)


class LogChannel:
    """Writes lines of text."""

    lost_steps = 0

    def __init__(self, logger: logging.Logger, level: int, every_steps: int) -> None:
        self._logger = logger
        self._level = level
        self._every_steps = every_steps
        self._onset = Onset()

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Writes what is worth a line."""
        for part in steps:
            self._log_steps(part.block)
        for event in events:
            if event.name == names.PIPELINE_EXCEPTION:
                self._logger.error(
                    "%s step %s raised %s: %s",
                    event.attributes[names.PIPELINE],
                    event.attributes[names.STEP],
                    event.attributes[names.EXCEPTION_TYPE],
                    event.attributes[names.EXCEPTION_MESSAGE],
                )

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002  # of the protocol
        """Lines are written at once."""
        return True

    def close(self, timeout_seconds: float) -> None:
        """Nothing to do: the logger is its owner's."""

    def _log_steps(self, block: StepBlock) -> None:
        onset = self._onset.find(block)
        regular = block.seq % self._every_steps == 0
        for index in np.flatnonzero(onset | regular).tolist():
            step = int(block.step[index])
            if onset[index]:
                self._logger.warning(
                    "%s step %d is not finite: %s", block.pipeline, step, _findings(block, index)
                )
            if regular[index]:
                self._logger.log(
                    self._level, "%s step %d: %s", block.pipeline, step, _numbers(block, index)
                )


def _findings(block: StepBlock, index: int) -> str:
    found = [
        f"{term} {finding.stage} {finding.kind}"
        for finding in FINDINGS
        for term, flags in zip(block.terms, block.flags[index].tolist(), strict=True)
        if flags & finding.flag
    ]
    if block.has_base[index] and not math.isfinite(block.base[index]):
        found.append(f"{names.BASE_TERM} value {block.base[index]}")
    return ", ".join(found)


def _numbers(block: StepBlock, index: int) -> str:
    parts = [f"total {block.total[index]:.4g}"]
    if block.has_base[index]:
        parts.append(f"base {block.base[index]:.4g}")
    columns = (block.value, block.weight, block.gradient_norm)
    for term, value, weight, norm in zip(
        block.terms, *(column[index] for column in columns), strict=True
    ):
        gradient = "" if math.isnan(norm) else f" gradient {norm:.4g}"
        parts.append(f"{term} {value:.4g} x {weight:.4g}{gradient}")
    return ", ".join(parts)
