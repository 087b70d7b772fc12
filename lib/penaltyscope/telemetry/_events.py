"""Every evaluation and event as a log record: our own sender, or an exporter of OpenTelemetry's."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penaltyscope.telemetry._channel import Channel
from penaltyscope.telemetry._environment import destination
from penaltyscope.telemetry._file_name import file_stem
from penaltyscope.telemetry._otlp import OTLPSender
from penaltyscope.telemetry._outbox import Outbox
from penaltyscope.telemetry._sink import Sink, Source, needed_by

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter


@dataclass(frozen=True, slots=True)
class OTLP(Sink):
    """Sends every record to an OTLP/HTTP receiver, such as the service of this project."""

    endpoint: str | None = None
    """Base URL; default: that of ``watch``, then ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
    spool: str | os.PathLike[str] | None = None
    """Directory in which requests wait until they were taken; default: that of ``watch``."""
    spool_bytes: int = 1024 * 1024 * 1024
    """Of what one process keeps there; the oldest is given up beyond it."""

    def open(self, source: Source) -> Channel:
        """A sender with a queue of its own.

        Raises:
            ValueError: an argument or an environment variable cannot be understood.
        """
        where = destination(
            source.environment,
            endpoint=self.endpoint or source.endpoint,
            headers=source.headers,
            timeout_seconds=source.timeout_seconds,
        )
        return OTLPSender(where, source.identity, outbox=self._outbox(source))

    def _outbox(self, source: Source) -> Outbox | None:
        directory = self.spool or source.spool
        if not directory:
            return None
        if self.spool_bytes <= 0:
            raise ValueError(f"spool_bytes must be positive, got {self.spool_bytes}.")
        from penaltyscope.telemetry._spool import SpoolOutbox  # locks files as Unix does

        stem = file_stem(source.identity, source.incarnation)
        return SpoolOutbox(Path(directory), stem, max_bytes=self.spool_bytes)


@dataclass(frozen=True, slots=True)
class Exporter(Sink):
    """Gives every record to an exporter of OpenTelemetry's SDK."""

    exporter: "LogRecordExporter"

    def open(self, source: Source) -> Channel:
        """A channel that calls the exporter."""
        with needed_by("Exporter", extra="sdk"):
            from penaltyscope.telemetry._sdk import ExporterChannel

        return ExporterChannel(self.exporter, source.identity)
