"""Compression comes back as it went in, whoever does it."""

import gzip

import pytest

from penaltyscope_events import delivery

BODY = b"\x0a" + b"penaltyscope" * 100


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def compressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(delivery, "isal_zlib", None)
    else:
        pytest.importorskip("isal")


def test_any_reader_of_gzip_understands_it() -> None:
    compressed = delivery.compressed(BODY)
    assert len(compressed) < len(BODY) / 10
    assert gzip.decompress(compressed) == BODY
    assert delivery.plain(compressed) == BODY


def test_the_same_body_has_the_same_bytes() -> None:
    assert delivery.compressed(BODY) == delivery.compressed(BODY)


def test_what_is_compressed_or_plain_stays_so() -> None:
    compressed = delivery.compressed(BODY)
    assert delivery.compressed(compressed) is compressed
    assert delivery.plain(BODY) is BODY
