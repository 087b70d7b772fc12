"""Bytes of an OTLP request in, columns of steps out."""

from penaltyscope_service.decode._attribute import MAX_COUNT, REASONS, Reason
from penaltyscope_service.decode._batch import Batch, Decoded
from penaltyscope_service.decode._record import InvalidRequestError
from penaltyscope_service.decode._request import LABELS, OTHER, ContentType, decode_logs
from penaltyscope_service.decode._unkept import UNKEPT, decode_metrics, decode_traces

__all__ = [
    "LABELS",
    "MAX_COUNT",
    "OTHER",
    "REASONS",
    "UNKEPT",
    "Batch",
    "ContentType",
    "Decoded",
    "InvalidRequestError",
    "Reason",
    "decode_logs",
    "decode_metrics",
    "decode_traces",
]
