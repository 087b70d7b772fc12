"""The receiver at the end of the alerting chain: keeps what Alertmanager sends."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Notification = dict[str, Any]
"""Reference: Alertmanager's webhook payload, version 4."""


@dataclass
class Webhook:
    url: str
    notifications: list[Notification] = field(default_factory=list)
    """In order of arrival."""

    def alerts(self, status: str, **labels: str) -> list[dict[str, Any]]:
        """The alerts of any notification that have this status and these labels."""
        return [
            alert
            for notification in self.notifications
            for alert in notification["alerts"]
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        ]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Listens on a free port."""
    hook = Webhook(url="")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # named by http.server
            body = self.rfile.read(int(self.headers["content-length"]))
            hook.notifications.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()
