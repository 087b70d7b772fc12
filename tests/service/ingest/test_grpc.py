"""OTLP/gRPC over a real connection: the same answers as OTLP/HTTP, in gRPC's words."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
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
from penaltyscope_service.ingest import GrpcServer, IngestMetrics, Receiver, Writer
from tests.service.blocks import make_block, make_request
from tests.service.decode.messages import encode, stop
from tests.service.ingest.store import MemoryStore

COLLECTOR = "/opentelemetry.proto.collector"
LOGS = f"{COLLECTOR}.logs.v1.LogsService/Export"
LIMIT = 20_000
GOOD = make_request(make_block(steps=3))

Calls = Callable[[grpc.aio.Channel], Awaitable[None]]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


class Served:
    """Runs calls against a server on a free port."""

    def __init__(self, store: MemoryStore, registry: CollectorRegistry) -> None:
        self.writer = Writer(store, max_requests=10, max_bytes=1_000_000)
        self.writer.start()
        self.receiver = Receiver(
            writer=self.writer,
            metrics=IngestMetrics(registry),
            gate=Gate(),
            max_body_bytes=LIMIT,
            max_reading_bytes=LIMIT,
            clock=lambda: 1.5,
        )

    def run(self, calls: Calls, *, body_seconds: float = 10.0) -> None:
        asyncio.run(asyncio.wait_for(self._run(calls, body_seconds), 60))

    async def _run(self, calls: Calls, body_seconds: float) -> None:
        server = GrpcServer(self.receiver, host="127.0.0.1", port=0, body_seconds=body_seconds)
        address = (await server.start()).removeprefix("grpc://")
        options = [("grpc.max_send_message_length", -1)]
        try:
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                await calls(channel)
        finally:
            await server.stop()


@pytest.fixture
def served(store: MemoryStore, registry: CollectorRegistry) -> Iterator[Served]:
    served = Served(store, registry)
    yield served
    served.writer.close()


async def call(
    channel: grpc.aio.Channel,
    body: bytes,
    method: str = LOGS,
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> bytes:
    export: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return await export(body, compression=compression)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # the queue tells nobody
        await asyncio.sleep(0.01)


async def refused(
    channel: grpc.aio.Channel,
    body: bytes,
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> tuple[grpc.aio.AioRpcError, Status]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, body, compression=compression)
    trailers = dict(caught.value.trailing_metadata())
    status = Status.FromString(trailers.get("grpc-status-details-bin", b""))
    return caught.value, status


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_a_good_call_is_kept_and_answered_with_an_empty_response(
    served: Served, store: MemoryStore, compression: grpc.Compression
) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        assert await call(channel, GOOD, compression=compression) == b""
        assert store.steps == 3
        assert await call(channel, b"") == b""

    served.run(calls)


def test_nothing_is_answered_while_the_store_is_at_work(served: Served, store: MemoryStore) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        store.gate.clear()
        under_way = asyncio.create_task(call(channel, GOOD))
        await until(lambda: served.writer._waiting_requests == 1)
        assert store.steps == 0
        assert not under_way.done()
        store.gate.set()
        await under_way
        assert store.steps == 3

    served.run(calls)


def test_refused_records_make_a_partial_success(served: Served, store: MemoryStore) -> None:
    body = encode("application/x-protobuf", stop(), stop({"penaltyscope.seq": -1}))

    async def calls(channel: grpc.aio.Channel) -> None:
        response = ExportLogsServiceResponse.FromString(await call(channel, body))
        assert response.partial_success.rejected_log_records == 1
        assert "penaltyscope.seq must be from 0" in response.partial_success.error_message

    served.run(calls)
    assert store.steps == 1


def test_spans_and_metrics_are_answered_with_an_honest_partial_success(served: Served) -> None:
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.add()
    metrics = ExportMetricsServiceRequest()
    metrics.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points.add()

    async def calls(channel: grpc.aio.Channel) -> None:
        spans = await call(
            channel, traces.SerializeToString(), f"{COLLECTOR}.trace.v1.TraceService/Export"
        )
        points = await call(
            channel, metrics.SerializeToString(), f"{COLLECTOR}.metrics.v1.MetricsService/Export"
        )
        assert ExportTraceServiceResponse.FromString(spans).partial_success.rejected_spans == 1
        success = ExportMetricsServiceResponse.FromString(points).partial_success
        assert success.rejected_data_points == 1
        assert "keeps only logs" in success.error_message

    served.run(calls)


def test_what_cannot_be_decoded_is_an_invalid_argument_that_says_what_is_bad(
    served: Served, store: MemoryStore
) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        error, status = await refused(channel, b"\xff")
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (status.code, status.message) == (3, error.details())
        bad = BadRequest()
        assert status.details[0].Unpack(bad)
        assert bad.field_violations[0].description == status.message
        assert await call(channel, GOOD) == b""

    served.run(calls)
    assert store.steps == 3


@pytest.mark.parametrize(
    ("body", "compression"),
    [
        (bytes(LIMIT + 1), grpc.Compression.NoCompression),
        (bytes(100 * LIMIT), grpc.Compression.Gzip),
    ],
    ids=["plain", "bomb"],
)
def test_what_is_too_large_is_refused_for_good(
    served: Served, store: MemoryStore, body: bytes, compression: grpc.Compression
) -> None:
    assert len(gzip.compress(bytes(100 * LIMIT))) < LIMIT

    async def calls(channel: grpc.aio.Channel) -> None:
        error, status = await refused(channel, body, compression)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not status.details, "with a RetryInfo the client would send it again"
        assert await call(channel, GOOD) == b""

    served.run(calls)
    assert store.steps == 3


def test_under_pressure_it_is_unavailable_and_says_when_to_try_again(
    served: Served, store: MemoryStore, registry: CollectorRegistry
) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        store.gate.clear()
        waiting = [asyncio.create_task(call(channel, GOOD)) for _ in range(10)]
        await until(lambda: served.writer._waiting_requests == 10)
        error, status = await refused(channel, GOOD)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        retry = RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.seconds == 1
        store.gate.set()
        await asyncio.gather(*waiting)

    served.run(calls)
    assert 'request_duration_seconds_count{code="503"} 1.0' in generate_latest(registry).decode()


def test_a_full_disk_is_unavailable_for_longer(served: Served, store: MemoryStore) -> None:
    store.error = OSError(28, "No space left on device")

    async def calls(channel: grpc.aio.Channel) -> None:
        error, status = await refused(channel, GOOD)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        retry = RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.seconds == 10

    served.run(calls)


def test_a_defect_is_internal_and_tells_nothing_of_the_inside(
    served: Served, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = ZeroDivisionError("secret")

    async def calls(channel: grpc.aio.Channel) -> None:
        error, _ = await refused(channel, GOOD)
        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details() == "internal error; see the log."

    served.run(calls)
    assert "secret" in caplog.text


def test_a_call_without_a_request_or_with_one_that_never_comes_ends(served: Served) -> None:
    async def none() -> AsyncIterator[bytes]:
        for nothing in list[bytes]():
            yield nothing

    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    async def calls(channel: grpc.aio.Channel) -> None:
        export: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(LOGS)
        for requests, code in (
            (none(), grpc.StatusCode.INVALID_ARGUMENT),
            (never(), grpc.StatusCode.UNAVAILABLE),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await export(requests)
            assert caught.value.code() is code

    served.run(calls, body_seconds=0.2)


def test_a_method_that_is_not_there_is_unimplemented(served: Served) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        for method in (f"{COLLECTOR}.logs.v1.LogsService/Import", "/other/Export"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel, GOOD, method)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    served.run(calls)


def test_a_port_that_is_taken_is_an_error(served: Served) -> None:
    async def both() -> None:
        first = GrpcServer(served.receiver, host="127.0.0.1", port=0, body_seconds=1)
        port = int((await first.start()).rpartition(":")[2])
        second = GrpcServer(served.receiver, host="127.0.0.1", port=port, body_seconds=1)
        try:
            with pytest.raises(OSError, match="cannot listen on"):
                await second.start()
        finally:
            await first.stop()

    asyncio.run(both())
