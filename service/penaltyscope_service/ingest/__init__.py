"""OTLP in: bounded reading, decoding, one writer, the exact answers."""

from penaltyscope_service.ingest._endpoint import Ingest
from penaltyscope_service.ingest._grpc import GrpcServer
from penaltyscope_service.ingest._metrics import IngestMetrics
from penaltyscope_service.ingest._overload import overloaded
from penaltyscope_service.ingest._paths import describe_paths
from penaltyscope_service.ingest._receiver import Receiver
from penaltyscope_service.ingest._writer import Writer

__all__ = [
    "GrpcServer",
    "Ingest",
    "IngestMetrics",
    "Receiver",
    "Writer",
    "describe_paths",
    "overloaded",
]
