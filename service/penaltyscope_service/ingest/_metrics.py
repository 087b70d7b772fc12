"""What the service counts about its own ingest."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from penaltyscope_service.decode import LABELS, OTHER, REASONS, UNKEPT, Decoded
from penaltyscope_service.ingest._status import STATUSES

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BYTES: Final = tuple(float(4**power) for power in range(4, 13))
"""256 B to 16 MiB."""


class IngestMetrics:
    """Every label value that can be known exists at 0 from the start, so that rates see a first."""

    def __init__(self, registry: CollectorRegistry) -> None:
        records = Counter(
            "penaltyscope_ingest_records",
            "Log records accepted, retries included, by event.",
            ["event"],
            registry=registry,
        )
        rejected = Counter(
            "penaltyscope_ingest_rejected_records",
            "Records refused one by one while the rest of their request was kept, by reason.",
            ["reason"],
            registry=registry,
        )
        seconds = Histogram(
            "penaltyscope_ingest_request_duration_seconds",
            "Time from the head of an OTLP request to its answer, by HTTP status code, or the one "
            "that says the same as a gRPC code.",
            ["code"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._bytes = Histogram(
            "penaltyscope_ingest_request_size_bytes",
            "Size of the bodies of OTLP requests as sent, before decompression.",
            buckets=_BYTES,
            registry=registry,
        )
        # By label value: prometheus_client's own search for them takes longer than counting.
        self._records = {event: records.labels(event) for event in (*LABELS.values(), OTHER)}
        self._rejected = {reason: rejected.labels(reason) for reason in (*REASONS, *UNKEPT)}
        self._seconds = {status.value: seconds.labels(str(status.value)) for status in STATUSES}

    def received(self, size: int) -> None:
        """A body of so many bytes was read."""
        self._bytes.observe(size)

    def kept(self, decoded: Decoded) -> None:
        """A request is durable."""
        for event, count in decoded.received.items():
            self._records[event].inc(count)
        for reason, count in decoded.refused.items():
            self._rejected[reason].inc(count)

    def answered(self, status: int, seconds: float) -> None:
        """A request was answered, well or not."""
        self._seconds[status].observe(seconds)
