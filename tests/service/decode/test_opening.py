from typing import Final

import pytest

from penaltyscope_service.decode import InvalidRequestError, decode_logs
from penaltyscope_service.decode._opening import Opening, Openings
from penaltyscope_service.decode._resource import Speaker
from penaltyscope_service.decode._step import ScopeTerms
from tests.service.blocks import make_block, make_request

PROTOBUF: Final = "application/x-protobuf"


def opening(stop: int) -> Opening:
    return Opening(stop, Speaker({}), ScopeTerms({}))


def test_it_is_found_in_requests_of_the_same_length_that_begin_alike() -> None:
    openings = Openings()
    known = opening(3)
    openings.remember(b"abc---", known)

    assert openings.find(b"abc+++") is known
    assert openings.find(b"abc++") is None
    assert openings.find(b"abd---") is None


def test_openings_of_several_lengths_are_told_apart() -> None:
    openings = Openings()
    short, long = opening(2), opening(4)
    openings.remember(b"ab----", short)
    openings.remember(b"abcd--", long)

    assert openings.find(b"abcd++") in (short, long)
    assert openings.find(b"ab++++") is short


def test_what_is_too_long_or_too_much_is_not_kept() -> None:
    openings = Openings()
    openings.remember(bytes(10_000), opening(9_000))
    assert openings.find(bytes(10_000)) is None

    for number in range(1200):
        openings.remember(number.to_bytes(2) + bytes(8_000), opening(8_000))

    assert openings.find((0).to_bytes(2) + bytes(8_000)) is None
    assert openings.find((1199).to_bytes(2) + bytes(8_000)) is not None


def test_a_known_opening_makes_no_damaged_request_a_good_one() -> None:
    body = make_request(make_block(steps=1), run="r")
    good = decode_logs(body, PROTOBUF)
    again = decode_logs(body, PROTOBUF)
    assert again.received == good.received == {"pipeline.start": 1, "pipeline.stop": 1}

    for damaged in (body[:-1], body + b"\x00", body[:-1] + b"\xff\xff", body + body[:5]):
        with pytest.raises(InvalidRequestError):
            decode_logs(damaged, PROTOBUF)
