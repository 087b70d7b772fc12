"""A receiver of OTLP that only weighs what it gets, in a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen


@contextmanager
def receiver() -> Iterator[tuple[str, Callable[[], int]]]:
    """Its address, and how many bytes of bodies it got so far."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{process.stdout.readline().strip()}"

    def weighed() -> int:
        with urlopen(url) as response:
            return int(response.read())

    try:
        yield url, weighed
    finally:
        process.terminate()
        process.communicate(timeout=10)


class _Scales(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    weight = 0

    def do_POST(self) -> None:
        _Scales.weight += len(self.rfile.read(int(self.headers["content-length"])))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(str(_Scales.weight).encode())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), _Scales) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
