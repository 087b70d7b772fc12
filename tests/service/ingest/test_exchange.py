"""What each kind of request is answered, byte for byte; afterwards a good one is still taken."""

import gc
import gzip
import random
import weakref
from collections.abc import Iterator

import orjson
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client import CollectorRegistry, generate_latest

from penaltyscope_service.access import Gate
from penaltyscope_service.ingest import SIGNALS, Exchange, IngestMetrics, Receiver, Reply, Writer
from tests.service.blocks import make_block, make_request
from tests.service.decode.messages import encode, stop
from tests.service.ingest.exchanging import Answer, post
from tests.service.ingest.store import MemoryStore

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}
LIMIT = 20_000
GOOD = make_request(make_block(steps=3))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def receiver(store: MemoryStore, registry: CollectorRegistry) -> Iterator[Receiver]:
    writer = Writer(store, max_requests=10, max_bytes=1_000_000)
    writer.start()
    yield Receiver(
        writer=writer,
        metrics=IngestMetrics(registry),
        max_body_bytes=LIMIT,
        max_reading_bytes=LIMIT,
        clock=lambda: 1.5,
        gate=Gate(),
    )
    writer.close()


def send(receiver: Receiver, *chunks: bytes, path: str = "/v1/logs", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = post(receiver, path, chunks, headers=PROTOBUF | named)
    assert answer is not None
    return answer


def assert_takes_a_good_request(receiver: Receiver, store: MemoryStore) -> None:
    before = store.steps
    assert send(receiver, GOOD).status == 200
    assert store.steps == before + 3


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-protobuf",
        "Application/X-Protobuf",
        "application/x-protobuf; charset=utf-8",
        " application/x-protobuf ;q=1",
    ],
)
def test_a_good_request_is_kept_and_answered_with_an_empty_response(
    receiver: Receiver, store: MemoryStore, content_type: str
) -> None:
    answer = send(receiver, GOOD, content_type=content_type)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.headers["content-length"] == "0"
    assert ExportLogsServiceResponse.FromString(answer.body) == ExportLogsServiceResponse()
    assert store.steps == 3


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json_is_answered_in_json(receiver: Receiver, content_type: str) -> None:
    answer = send(receiver, b'{"resourceLogs": []}', content_type=content_type)

    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["content-type"] == "application/json"


def test_gzip_and_chunks_make_no_difference(receiver: Receiver, store: MemoryStore) -> None:
    body = gzip.compress(GOOD)

    assert send(receiver, body[:10], b"", body[10:], content_encoding="gzip").status == 200
    assert send(receiver, GOOD[:10], GOOD[10:], content_encoding="identity").status == 200
    assert store.steps == 6


def test_refused_records_make_a_partial_success(receiver: Receiver, store: MemoryStore) -> None:
    body = encode("application/x-protobuf", stop(), stop({"penaltyscope.seq": -1}))

    response = ExportLogsServiceResponse.FromString(send(receiver, body).body)

    assert response.partial_success.rejected_log_records == 1
    assert response.partial_success.error_message == (
        "record 2 (penaltyscope.pipeline.stop): penaltyscope.seq must be from 0 to "
        "4611686018427387904, got -1."
    )
    assert store.steps == 1


def test_a_partial_success_in_json_writes_its_count_as_int64_are_written(
    receiver: Receiver,
) -> None:
    body = encode("application/json", stop(without="penaltyscope.seq"))

    answer = send(receiver, body, content_type="application/json")

    assert orjson.loads(answer.body) == {
        "partialSuccess": {
            "rejectedLogRecords": "1",
            "errorMessage": "record 1 (penaltyscope.pipeline.stop): penaltyscope.seq is missing.",
        }
    }


def test_spans_and_metrics_are_answered_with_an_honest_partial_success(receiver: Receiver) -> None:
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.add()
    metrics = ExportMetricsServiceRequest()
    metrics.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points.add()

    spans = send(receiver, traces.SerializeToString(), path="/v1/traces")
    points = send(receiver, metrics.SerializeToString(), path="/v1/metrics")

    assert (spans.status, points.status) == (200, 200)
    span_success = ExportTraceServiceResponse.FromString(spans.body).partial_success
    point_success = ExportMetricsServiceResponse.FromString(points.body).partial_success
    assert span_success.rejected_spans == 1
    assert "keeps only logs" in span_success.error_message
    assert point_success.rejected_data_points == 1
    assert "keeps only logs" in point_success.error_message


NOISE = random.Random(7).randbytes(500)
NOT_PROTOBUF = "body must be a protobuf Export"
NOT_WHOLE = "body must be whole gzip, got one that ends early."
TOO_LARGE = f"body must be at most {LIMIT} bytes, before and after decompression."
CONTENT_TYPE = "content-type must be application/x-protobuf or application/json, got "
ENCODING = "content-encoding must be identity, gzip or zstd, got "

Malformed = tuple[dict[str, str], bytes, int, int, str]
MALFORMED: dict[str, Malformed] = {
    "protobuf: a lone tag": (PROTOBUF, b"\xff", 400, 3, NOT_PROTOBUF),
    "protobuf: truncated": (PROTOBUF, GOOD[:-1], 400, 3, NOT_PROTOBUF),
    "protobuf: noise": (PROTOBUF, NOISE, 400, 3, NOT_PROTOBUF),
    "protobuf: JSON": (PROTOBUF, b"{}", 400, 3, NOT_PROTOBUF),
    "protobuf: nested groups": (PROTOBUF, b"\x0b" * 5_000, 400, 3, NOT_PROTOBUF),
    "protobuf: not UTF-8": (PROTOBUF, b"\x0a\x04\x1a\x02\xff\xfe", 400, 3, NOT_PROTOBUF),
    "protobuf: too large": (PROTOBUF, bytes(LIMIT + 1), 413, 8, TOO_LARGE),
    "gzip: not gzip": (PROTOBUF | GZIP, GOOD, 400, 3, "body must be gzip: "),
    "gzip: empty": (PROTOBUF | GZIP, b"", 400, 3, NOT_WHOLE),
    "gzip: truncated": (PROTOBUF | GZIP, gzip.compress(GOOD)[:-4], 400, 3, NOT_WHOLE),
    "gzip: of noise": (PROTOBUF | GZIP, gzip.compress(NOISE), 400, 3, NOT_PROTOBUF),
    "gzip: a bomb": (PROTOBUF | GZIP, gzip.compress(bytes(10**7)), 413, 8, TOO_LARGE),
    "JSON: empty": (JSON, b"", 400, 3, "body must be JSON: "),
    "JSON: protobuf": (JSON, GOOD, 400, 3, "body must be JSON: "),
    "JSON: deep": (JSON, b"[" * 10_000, 400, 3, "body must be JSON: "),
    "JSON: a list": (JSON, b"[]", 400, 3, "body must be an object, got []."),
    "JSON: a gzipped list": (JSON | GZIP, gzip.compress(b"[1]"), 400, 3, "body must be an object"),
    "encoding: br": (PROTOBUF | {"content-encoding": "br"}, GOOD, 415, 3, ENCODING + "'br'."),
    "encoding: twice": (JSON | {"content-encoding": "gzip, gzip"}, b"{}", 415, 3, ENCODING),
    "type: none": ({}, GOOD, 415, 3, CONTENT_TYPE + "''."),
    "type: text": ({"content-type": "text/plain"}, GOOD, 415, 3, CONTENT_TYPE + "'text/plain'."),
    "type: noise": ({"content-type": "\xff"}, GOOD, 415, 3, CONTENT_TYPE),
    "length: too large": (JSON | {"content-length": f"{LIMIT + 1}"}, b"", 413, 8, TOO_LARGE),
    "length: absurd": (PROTOBUF | {"content-length": "9" * 50}, b"", 413, 8, TOO_LARGE),
}


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/traces", "/v1/metrics"])
@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED)
def test_a_request_that_cannot_be_read_gets_a_status_in_its_own_encoding(
    receiver: Receiver, store: MemoryStore, path: str, case: Malformed
) -> None:
    headers, body, status, code, message = case

    answer = post(receiver, path, [body], headers=headers)

    assert answer is not None
    assert answer.status == status
    got_code, got_message = read_status(answer)
    assert (got_code, got_message[: len(message)]) == (code, message)
    own = PROTOBUF if headers.get("content-type") == "application/x-protobuf" else JSON
    assert answer.headers["content-type"] == own["content-type"]
    assert_takes_a_good_request(receiver, store)


@pytest.mark.parametrize(
    ("path", "document", "message"),
    [
        ("/v1/logs", {"resourceLogs": 1}, "resourceLogs must be a list, got 1."),
        ("/v1/traces", {"resourceSpans": [1]}, "resourceSpans must be an object, got 1."),
        (
            "/v1/metrics",
            {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": []}]}]}]},
            "sum must be an object, got [].",
        ),
    ],
)
def test_a_field_of_the_wrong_type_is_named(
    receiver: Receiver, store: MemoryStore, path: str, document: object, message: str
) -> None:
    answer = send(receiver, orjson.dumps(document), path=path, content_type="application/json")

    assert answer.status == 400
    assert read_status(answer) == (3, message)
    assert_takes_a_good_request(receiver, store)


def read_status(answer: Answer) -> tuple[int, str]:
    if answer.headers["content-type"] == "application/json":
        status = orjson.loads(answer.body)
        return status["code"], status["message"]
    parsed = Status.FromString(answer.body)
    return parsed.code, parsed.message


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read(
    receiver: Receiver,
) -> None:
    assert send(receiver, GOOD, content_length=str(LIMIT + 1)).read == 0


def test_a_body_that_grows_too_large_is_refused_at_once(receiver: Receiver) -> None:
    answer = send(receiver, bytes(LIMIT), b"x", b"never read")

    assert (answer.status, answer.read) == (413, 2)


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "DELETE"])
def test_only_post_is_allowed(receiver: Receiver, method: str) -> None:
    answer = post(receiver, "/v1/logs", [GOOD], headers=PROTOBUF, method=method)

    assert answer is not None
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert read_status(answer) == (12, f"method must be POST, got {method}.")


def test_a_client_that_hangs_up_in_the_middle_is_harmless(
    receiver: Receiver, store: MemoryStore
) -> None:
    assert post(receiver, "/v1/logs", [GOOD[:50]], headers=PROTOBUF, hang_up=True) is None

    assert store.steps == 0
    assert_takes_a_good_request(receiver, store)


def test_a_store_that_cannot_write_answers_503_and_says_when_to_try_again(
    receiver: Receiver, store: MemoryStore
) -> None:
    store.error = OSError(28, "No space left on device")

    answer = send(receiver, GOOD)

    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    code, message = read_status(answer)
    assert code == 14
    assert "No space left on device" in message
    store.error = None
    assert_takes_a_good_request(receiver, store)


def test_a_defect_answers_500_without_telling_what_is_inside(
    receiver: Receiver, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = ZeroDivisionError("secret")

    answer = send(receiver, GOOD)

    assert answer.status == 500
    assert read_status(answer) == (13, "internal error; see the log.")
    assert "secret" in caplog.text
    store.error = None
    assert_takes_a_good_request(receiver, store)


def test_everything_is_counted_once_it_is_durable(
    receiver: Receiver, store: MemoryStore, registry: CollectorRegistry
) -> None:
    send(receiver, GOOD)
    store.error = OSError("full")
    send(receiver, GOOD)
    send(receiver, b"\xff")

    text = generate_latest(registry).decode()
    assert 'penaltyscope_ingest_records_total{event="pipeline.stop"} 3.0' in text
    assert 'penaltyscope_ingest_rejected_records_total{reason="missing_run_id"} 0.0' in text
    assert 'penaltyscope_ingest_request_duration_seconds_count{code="200"} 1.0' in text
    assert 'penaltyscope_ingest_request_duration_seconds_count{code="503"} 1.0' in text
    assert 'penaltyscope_ingest_request_duration_seconds_count{code="400"} 1.0' in text
    assert 'penaltyscope_ingest_request_duration_seconds_count{code="413"} 0.0' in text
    assert "penaltyscope_ingest_request_size_bytes_count 3.0" in text


def test_whoever_was_answered_is_freed_without_a_collection(receiver: Receiver) -> None:
    class Asker:
        def ask(self) -> None:
            self.exchange = Exchange(receiver, SIGNALS["/v1/logs"], self.take)
            self.exchange.begin("GET", {})

        def take(self, reply: Reply) -> None:
            self.status = reply.status

    asker = Asker()
    asker.ask()
    assert asker.status == 405
    freed = weakref.ref(asker)
    gc.disable()
    try:
        del asker
        assert freed() is None
    finally:
        gc.enable()
