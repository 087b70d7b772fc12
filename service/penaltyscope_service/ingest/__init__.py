"""OTLP in: bounded reading, decoding, one writer, the exact answers."""

from penaltyscope_service.ingest._exchange import Exchange
from penaltyscope_service.ingest._grpc import GrpcServer
from penaltyscope_service.ingest._head import Head
from penaltyscope_service.ingest._job import Job, awaited
from penaltyscope_service.ingest._metrics import IngestMetrics
from penaltyscope_service.ingest._overload import overloaded
from penaltyscope_service.ingest._paths import describe_paths
from penaltyscope_service.ingest._receiver import Receiver
from penaltyscope_service.ingest._reply import Reply
from penaltyscope_service.ingest._signal import SIGNALS, Signal
from penaltyscope_service.ingest._writer import Writer

__all__ = [
    "SIGNALS",
    "Exchange",
    "GrpcServer",
    "Head",
    "IngestMetrics",
    "Job",
    "Receiver",
    "Reply",
    "Signal",
    "Writer",
    "awaited",
    "describe_paths",
    "overloaded",
]
