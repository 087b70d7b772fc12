"""OTLP in: bounded reading, decoding, one writer, the exact answers."""

from penaltyscope_service.ingest._endpoint import Ingest
from penaltyscope_service.ingest._metrics import IngestMetrics
from penaltyscope_service.ingest._writer import Writer

__all__ = ["Ingest", "IngestMetrics", "Writer"]
