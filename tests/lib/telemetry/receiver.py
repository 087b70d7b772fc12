"""An OTLP receiver on a real socket that answers as it is told and keeps what it got."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penaltyscope_events import names


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Receiver:
    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    """Given out one by one; then 200."""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: list[ExportLogsServiceRequest] = field(default_factory=list)
    """Only those that were answered with 200; so are the two below."""
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def events(self) -> list[str]:
        return [
            record.event_name
            for request in self.requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def steps(self) -> list[int]:
        return [
            attribute.value.int_value
            for request in self.requests
            for scope in request.resource_logs[0].scope_logs
            for record in scope.log_records
            if record.event_name == names.PIPELINE_STOP
            for attribute in record.attributes
            if attribute.key == names.STEP
        ]

    def keep(self, path: str, body: bytes) -> None:
        if path.endswith("/metrics"):
            self.metrics.append(ExportMetricsServiceRequest.FromString(body))
        elif path.endswith("/traces"):
            self.traces.append(ExportTraceServiceRequest.FromString(body))
        else:
            self.requests.append(ExportLogsServiceRequest.FromString(body))

    def wait_for_attempts(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.headers) >= count, 20)


@contextmanager
def receiver(*answers: Answer) -> Iterator[Receiver]:
    state = Receiver(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = state.answers.pop(0) if state.answers else Answer()
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            with state.changed:
                state.paths.append(self.path)
                state.headers.append({k.lower(): v for k, v in self.headers.items()})
                if answer.status == 200:
                    state.keep(self.path, body)
                state.changed.notify_all()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
