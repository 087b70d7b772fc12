"""What the service counts about its own ingest."""

from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry

from penaltyscope_service.decode import LABELS, OTHER, REASONS, UNKEPT, Decoded
from penaltyscope_service.ingest._status import STATUSES
from penaltyscope_service.ingest._tally import Counts, Distributions

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BYTES: Final = tuple(float(4**power) for power in range(4, 13))
"""256 B to 16 MiB."""


class IngestMetrics:
    """Every label value that can be known exists at 0 from the start, so that rates see a first.

    Only the event loop counts.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._records = Counts(
            "penaltyscope_ingest_records",
            "Log records accepted, retries included, by event.",
            "event",
            (*LABELS.values(), OTHER),
            registry,
        )
        self._rejected = Counts(
            "penaltyscope_ingest_rejected_records",
            "Records refused one by one while the rest of their request was kept, by reason.",
            "reason",
            (*REASONS, *UNKEPT),
            registry,
        )
        seconds = Distributions(
            "penaltyscope_ingest_request_duration_seconds",
            "Time from the head of an OTLP request to its answer, by HTTP status code, or the one "
            "that says the same as a gRPC code.",
            _SECONDS,
            registry,
            label="code",
            values=(str(status.value) for status in STATUSES),
        )
        sizes = Distributions(
            "penaltyscope_ingest_request_size_bytes",
            "Size of the bodies of OTLP requests as sent, before decompression.",
            _BYTES,
            registry,
        )
        self._seconds = {status: seconds.of[str(status.value)] for status in STATUSES}
        (self._bytes,) = sizes.of.values()

    def received(self, size: int) -> None:
        """A body of so many bytes was read."""
        self._bytes.observe(size)

    def kept(self, decoded: Decoded) -> None:
        """A request is durable."""
        for event, count in decoded.received.items():
            self._records.add(event, count)
        for reason, count in decoded.refused.items():
            self._rejected.add(reason, count)

    def answered(self, status: HTTPStatus, seconds: float) -> None:
        """A request was answered, well or not."""
        self._seconds[status].observe(seconds)
