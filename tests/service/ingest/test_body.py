import gzip
import random
import tracemalloc
import zlib

import pytest

from penaltyscope_service.ingest._body import ContentEncoding, decompress
from penaltyscope_service.refusal import RefusedError
from tests.service.compression import COMPRESS, zstd_frame

LIMIT = 100_000


def test_identity_leaves_the_body_as_it_is() -> None:
    assert decompress(b"abc", "identity", LIMIT) == b"abc"


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, LIMIT])
def test_compression_is_undone(encoding: ContentEncoding, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    assert decompress(COMPRESS[encoding](body), encoding, LIMIT) == body


@pytest.mark.parametrize("encoding", COMPRESS)
def test_members_follow_each_other_also_across_chunks(encoding: ContentEncoding) -> None:
    noise = random.Random(0)
    parts = [noise.randbytes(300) for _ in range(300)]
    body = b"".join(map(COMPRESS[encoding], parts))
    assert len(body) > 65_536

    assert decompress(body, encoding, LIMIT) == b"".join(parts)


GZIP_CASES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body must be whole gzip, got one that ends early."),
    "text": (b"not gzip at all", "body must be gzip: "),
    "no trailer": (
        gzip.compress(b"abc")[:-1],
        "body must be whole gzip, got one that ends early.",
    ),
    "header only": (
        gzip.compress(b"abc")[:9],
        "body must be whole gzip, got one that ends early.",
    ),
    "tail": (gzip.compress(b"abc") + b"a longer tail", "body must be gzip: "),
    "checksum": (gzip.compress(b"abc")[:-8] + bytes(8), "body must be gzip: "),
    "zlib": (zlib.compress(b"abc"), "body must be gzip: "),
    "members": (gzip.compress(b"") * 1_025, "body must be at most 1024 gzip members, got more."),
}
FRAME = zstd_frame(b"abc")
ZSTD_CASES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body must be whole zstd, got one that ends early."),
    "text": (b"not zstd at all", "body must be zstd: "),
    "cut": (FRAME[:-1], "body must be whole zstd, got one that ends early."),
    "header only": (FRAME[:5], "body must be whole zstd, got one that ends early."),
    "tail": (FRAME + b"tail", "body must be zstd: "),
    "checksum": (zstd_frame(b"abc", checksum=True)[:-4] + bytes(4), "body must be zstd: "),
    "gzip": (gzip.compress(b"abc"), "body must be zstd: "),
    "window": (zstd_frame(b"abc", window_log=24), "body must be zstd: "),
    "members": (zstd_frame(b"") * 1_025, "body must be at most 1024 zstd members, got more."),
}


@pytest.mark.parametrize(("body", "message"), GZIP_CASES.values(), ids=GZIP_CASES)
def test_what_is_not_whole_gzip_is_refused(body: bytes, message: str) -> None:
    assert_refused(body, "gzip", message)


@pytest.mark.parametrize(("body", "message"), ZSTD_CASES.values(), ids=ZSTD_CASES)
def test_what_is_not_whole_zstd_is_refused(body: bytes, message: str) -> None:
    assert_refused(body, "zstd", message)


def assert_refused(body: bytes, encoding: ContentEncoding, message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        decompress(body, encoding, LIMIT)

    assert caught.value.status == 400
    assert caught.value.message.startswith(message)


def test_a_frame_that_is_to_be_skipped_is() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"???"

    assert decompress(skipped + FRAME + skipped, "zstd", LIMIT) == b"abc"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_stops_at_the_limit(encoding: ContentEncoding) -> None:
    bomb = COMPRESS[encoding](bytes(100_000_000))
    assert len(bomb) < LIMIT

    tracemalloc.start()
    with pytest.raises(RefusedError) as caught:
        decompress(bomb, encoding, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert caught.value.status == 413
    assert peak < 10 * LIMIT


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_in_many_members_stops_at_the_limit(encoding: ContentEncoding) -> None:
    with pytest.raises(RefusedError) as caught:
        decompress(COMPRESS[encoding](bytes(1_000)) * 1_000, encoding, LIMIT)

    assert caught.value.status == 413
