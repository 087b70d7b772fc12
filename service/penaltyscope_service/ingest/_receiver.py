"""What every request goes through, whichever transport brought it."""

from collections.abc import Callable
from dataclasses import replace

from penaltyscope_service.access import Gate, Headers, Token, own_run
from penaltyscope_service.decode import Decoded
from penaltyscope_service.ingest._body import decompress
from penaltyscope_service.ingest._head import Head
from penaltyscope_service.ingest._inflow import Inflow
from penaltyscope_service.ingest._job import Job, Outcome
from penaltyscope_service.ingest._metrics import IngestMetrics
from penaltyscope_service.ingest._signal import Signal
from penaltyscope_service.ingest._writer import Writer


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
        gate: Gate,
    ) -> None:
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes
        self.inflow = Inflow(max_reading_bytes)
        self._writer = writer
        self._clock = clock
        self._gate = gate

    def admit(self, headers: Headers) -> Token | None:
        """Who sends, decided from the headers alone, before the body is read.

        The one place that asks who sends and whether there is room, for both transports.

        Raises:
            DeniedError: if the sender may not.
            RefusedError: if there is no room.
        """
        token = self._gate.admit(headers, "ingest")
        self._writer.require_room()
        return token

    def keep(
        self,
        signal: Signal,
        body: bytes,
        head: Head,
        token: Token | None,
        done: Callable[[Outcome], None],
    ) -> Job:
        """Decodes a body and keeps what is in it.

        Args:
            signal: what is in it.
            body: as it was sent.
            head: how it is encoded and compressed.
            token: from :meth:`admit`.
            done: called with what is to be counted by :meth:`kept`, or with InvalidRequestError if
                the body cannot be decoded, RefusedError if it cannot be decompressed or kept.

        Raises:
            RefusedError: if there is no room.
        """
        self.metrics.received(len(body))
        received_ns = int(self._clock() * 1e9)

        def decode() -> Decoded:
            plain = decompress(body, head.content_encoding, self.max_body_bytes)
            decoded = signal.decode(plain, head.content_type, received_ns=received_ns)
            return _of_tenant(decoded, token.tenant if token else None)

        return self._writer.submit(len(body), decode, done)

    def kept(self, decoded: Decoded, token: Token | None) -> None:
        """Counts what is durable."""
        self.metrics.kept(decoded)
        self._gate.charge(token, sum(decoded.received.values()) + sum(decoded.refused.values()))


def _of_tenant(decoded: Decoded, tenant: str | None) -> Decoded:
    """With the runs' ids as everyone sees them."""
    if tenant is None:
        return decoded
    batches = (
        b._replace(identity=replace(b.identity, run_id=own_run(b.identity.run_id, tenant)))
        for b in decoded.batches
    )
    return decoded._replace(batches=tuple(batches))
