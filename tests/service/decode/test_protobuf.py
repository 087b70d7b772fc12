"""Bytes that are not, or only in part, an export request in protobuf."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penaltyscope_service.decode import InvalidRequestError, decode_logs
from tests.service.blocks import make_block, make_request

GOOD = make_request(make_block())


def field(tag: int, body: bytes) -> bytes:
    """A field of fewer than 16,384 bytes."""
    return bytes([tag, len(body) & 0x7F | 0x80, len(body) >> 7]) + body


def nested(levels: int) -> bytes:
    """A resource attribute whose value is arrays in arrays."""
    value = b""
    for _ in range(levels):
        value = field(0x2A, field(0x0A, value))
    return field(0x0A, field(0x0A, field(0x0A, field(0x12, value))))


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\x0a\x05abc",
        GOOD[:-1],
        GOOD + b"\x0a",
        field(0x0A, field(0x1A, b"\xff\xfe")),
        nested(200),
        b"\x0b" * 1_000,
        b'{"resourceLogs": []}',
    ],
    ids=["tag", "short", "truncated", "tail", "not utf-8", "deep", "groups", "json"],
)
def test_what_is_not_protobuf_refuses_the_request(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=r"^body must be a protobuf Export"):
        decode_logs(body, "application/x-protobuf")


def test_an_empty_body_is_an_empty_request() -> None:
    assert decode_logs(b"", "application/x-protobuf").batches == ()


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for content_type in ("application/x-protobuf", "application/json"):
        try:
            decode_logs(body, content_type)
        except InvalidRequestError as error:
            assert str(error).startswith("body must be")  # noqa: PT017


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_request_is_decoded_or_refused(position: int, damage: bytes) -> None:
    body = GOOD[:position] + damage + GOOD[position + len(damage) :]
    try:
        decoded = decode_logs(body, "application/x-protobuf")
    except InvalidRequestError:
        return
    kept = sum(len(block) for batch in decoded.batches for block in batch.steps)
    assert kept == decoded.received.get("pipeline.stop", 0) <= 3
