"""Feeds mutated requests to everything between a body's bytes and the history.

What a request may do is be refused; any other exception would be answered 500.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Protocol

from penaltyscope_service.decode import Batch, ContentType, Decoded, InvalidRequestError
from penaltyscope_service.ingest._body import ContentEncoding, decompress
from penaltyscope_service.ingest._signal import SIGNALS
from penaltyscope_service.refusal import RefusedError
from tests.fuzz.corpus import corpus
from tests.fuzz.mutation import mutate, mutate_json
from tests.service.compression import COMPRESS

LIMIT: Final = 1_000_000
_GROUP: Final = 64
"""Requests in one transaction."""
_CONTENT_TYPES: Final[tuple[ContentType, ...]] = ("application/x-protobuf", "application/json")
_ENCODINGS: Final[tuple[ContentEncoding, ...]] = ("identity", "gzip", "zstd")


class Store(Protocol):
    """Where what could be decoded goes."""

    def ingest(self, batches: list[Batch], /) -> object:
        """Keeps all of them."""


@dataclass(frozen=True)
class Input:
    """One request."""

    path: str
    content_type: ContentType
    encoding: ContentEncoding
    body: bytes


@dataclass
class Report:
    """What a campaign found."""

    inputs: int = 0
    kept: int = 0
    """Decoded to at least one record of a run, and kept."""
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, Input]] = field(default_factory=list)
    slowest_seconds: float = 0.0
    """Processor time of the dearest input, up to the history."""


def inputs(seed: int) -> Iterator[Input]:
    """Without an end, the same for the same seed."""
    chance = random.Random(seed)
    kinds = [
        (path, content_type, encoding, corpus(path, content_type))
        for path, content_type, encoding in product(SIGNALS, _CONTENT_TYPES, _ENCODINGS)
        for _ in range(4 if path == "/v1/logs" else 1)
        for _ in range(4 if encoding == "identity" else 1)
    ]
    while True:
        path, content_type, encoding, valid = chance.choice(kinds)
        body = chance.choice(valid)
        if content_type == "application/json" and chance.random() < 0.7:
            body = mutate_json(chance, body)
        elif encoding == "identity" or chance.random() < 0.5:
            body = mutate(chance, body, valid)
        if encoding != "identity":
            body = COMPRESS[encoding](body)
            if chance.random() < 0.7:
                body = mutate(chance, body, [body])
        yield Input(path, content_type, encoding, body)


def run(store: Store, *, count: int, seed: int) -> Report:
    """So many inputs; those that decode go to the store."""
    report = Report()
    waiting: list[tuple[Input, Decoded]] = []
    for _, made in zip(range(count), inputs(seed), strict=False):
        started = time.thread_time()
        decoded = _decode(made, report)
        report.slowest_seconds = max(report.slowest_seconds, time.thread_time() - started)
        report.inputs += 1
        if decoded is not None and decoded.batches:
            waiting.append((made, decoded))
        if len(waiting) == _GROUP:
            _keep(store, waiting, report)
            waiting.clear()
    _keep(store, waiting, report)
    return report


def _decode(made: Input, report: Report) -> Decoded | None:
    try:
        plain = decompress(made.body, made.encoding, LIMIT)
        decoded = SIGNALS[made.path].decode(plain, made.content_type, received_ns=1)
    except (InvalidRequestError, RefusedError) as error:
        report.outcomes[type(error).__name__] += 1
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        report.findings.append((repr(error), made))
    else:
        report.outcomes["partial success" if decoded.refused else "success"] += 1
        return decoded
    return None


def _keep(store: Store, group: list[tuple[Input, Decoded]], report: Report) -> None:
    try:
        store.ingest([batch for _, decoded in group for batch in decoded.batches])
    except Exception as error:  # noqa: BLE001  # as above; which of them it was is found one by one
        if len(group) == 1:
            report.findings.append((repr(error), group[0][0]))
            return
        for one in group:
            _keep(store, [one], report)
    else:
        report.kept += len(group)
