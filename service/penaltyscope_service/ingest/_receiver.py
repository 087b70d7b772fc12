"""What every request goes through, whichever transport brought it."""

from collections.abc import Callable, Iterable

from penaltyscope_service.decode import ContentType, Decoded
from penaltyscope_service.ingest._body import ContentEncoding, decompress
from penaltyscope_service.ingest._inflow import Inflow
from penaltyscope_service.ingest._metrics import IngestMetrics
from penaltyscope_service.ingest._signal import Signal
from penaltyscope_service.ingest._writer import Writer

Headers = Iterable[tuple[bytes, bytes]]
"""Of an HTTP request, or the metadata of a call; names in lower case."""


class Receiver:
    """Admits requests, keeps what is in them, and counts."""

    def __init__(
        self,
        *,
        writer: Writer,
        metrics: IngestMetrics,
        max_body_bytes: int,
        max_reading_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes
        self.inflow = Inflow(max_reading_bytes)
        self._writer = writer
        self._clock = clock

    def admit(self, headers: Headers) -> None:
        """Decides from the headers alone whether the body may be read.

        The one place that asks who sends and whether there is room, for both transports.

        Raises:
            RefusedError: if not.
        """
        del headers  # everyone who reaches the port may send
        self._writer.require_room()

    async def keep(
        self, signal: Signal, body: bytes, content_type: ContentType, encoding: ContentEncoding
    ) -> Decoded:
        """Decodes a body and keeps what is in it; returns when that is durable.

        Raises:
            InvalidRequestError: if it cannot be decoded.
            RefusedError: if it cannot be decompressed or kept.
        """
        self.metrics.received(len(body))
        received_ns = int(self._clock() * 1e9)

        def decode() -> Decoded:
            plain = decompress(body, encoding, self.max_body_bytes)
            return signal.decode(plain, content_type, received_ns=received_ns)

        decoded = await self._writer.submit(len(body), decode)
        self.metrics.kept(decoded)
        return decoded
