"""Valid requests of every kind, small, in both encodings."""

from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValueList

from penaltyscope_service.decode import ContentType
from tests.service.conformance.signals import SIGNALS, write
from tests.service.decode.messages import encode, record, stop

_ODD: Final = {
    "bytes": AnyValue(bytes_value=b"\x00\xff"),
    "map": AnyValue(kvlist_value=KeyValueList()),
    "mixed": AnyValue(
        array_value=ArrayValue(values=[AnyValue(), AnyValue(int_value=1), AnyValue(double_value=2)])
    ),
}
_RECORDS: Final = (
    (stop(), stop({"penaltyscope.seq": 2}), stop({"penaltyscope.seq": 4})),
    (stop({"penaltyscope.term.value": [float("nan"), float("inf")]}),),
    (stop({"penaltyscope.term.flags": [1, 16]}, without="penaltyscope.term.gradient_norm"),),
    (record("penaltyscope.run.start", {}), record("penaltyscope.run.heartbeat", {})),
    (record("penaltyscope.run.end", {"penaltyscope.status": "failed", "exception.type": "E"}),),
    (record("penaltyscope.incident", {"penaltyscope.incident.kind": "nan", "k": [1.0, 2.0]}),),
    (record("other", _ODD), stop(_ODD)),
)


def corpus(path: str, content_type: ContentType) -> tuple[bytes, ...]:
    """Of one signal in one encoding."""
    if path == "/v1/logs":
        resource = {
            "penaltyscope.run.id": "r",
            "penaltyscope.rank": 1,
            "penaltyscope.run.tag.t": "x",
        }
        scope = {"penaltyscope.term.names": ["sparsity", "distill"]}
        return tuple(
            encode(content_type, *records, resource=resource, scope=scope) for records in _RECORDS
        )
    signal = next(signal for signal in SIGNALS if signal.path == path)
    return (write(signal.refused, content_type), write(signal.empty, content_type))
