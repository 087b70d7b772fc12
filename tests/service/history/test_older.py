"""Blocks and rollups that older code wrote, each beside the same block stored plainly.

Versions 1 and 2 are of older forms; version 3 is of today's.
"""

import base64
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penaltyscope_events import COLUMNS, StepBlock
from penaltyscope_service.history._payload import decode_block, decode_columns, encode_block
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.history._rollup_bytes import decode_rollups, encode_rollups
from penaltyscope_service.history._rollup_bytes_2 import rollup_bytes_1, with_head
from penaltyscope_service.history._salvage import _NONSENSE
from tests.service.steps import same_steps

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TERMS = ("a", "b")
WIDTH = 3 + 3 * len(TERMS)


def stored(version: str = "*") -> list[Any]:
    return [
        pytest.param(block, id=f"{path.stem}-{name}")
        for path in sorted((Path(__file__).parent / "older").glob(f"version_{version}.json"))
        for name, block in json.loads(path.read_text()).items()
    ]


def payload(block: Mapping[str, Any], form: str) -> bytes:
    return base64.b64decode(block[form])


def decode(block: Mapping[str, Any], form: str) -> StepBlock:
    return decode_block(
        payload(block, form), pipeline="p", incarnation="i", terms=TERMS, rows=block["rows"]
    )


@pytest.mark.parametrize("block", stored())
def test_a_block_of_older_code_is_read_to_the_last_bit(block: Mapping[str, Any]) -> None:
    assert same_steps(decode(block, "packed"), decode(block, "plain"))
    columns = decode_columns(payload(block, "packed"), ["total"], terms=2, rows=block["rows"])
    assert columns["total"].tobytes() == decode(block, "plain").total.tobytes()


@pytest.mark.parametrize("block", stored())
def test_a_rollup_of_older_code_says_the_same(block: Mapping[str, Any]) -> None:
    older = payload(block, "rollup")
    if len(older) == rollup_bytes_1(WIDTH):
        older = with_head(older)
    expected = roll_up(decode(block, "plain"))
    found = decode_rollups([older], WIDTH, range(WIDTH))
    there = {
        "lowest": expected["lowest"] <= expected["highest"],
        "strange": expected["strange"] != 0,
    }
    there["highest"] = there["lowest"]
    for name, real in there.items():
        assert found[name].tobytes() == expected[name].tobytes()
        assert (found[f"{name}_step"] == expected[f"{name}_step"])[real].all()


@pytest.mark.parametrize("block", stored())
def test_a_damaged_block_is_told_by_an_error_that_salvage_knows(block: Mapping[str, Any]) -> None:
    whole = payload(block, "packed")
    for place in range(0, len(whole), 1 + len(whole) // 60):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        for given in (damaged, whole[:place]):
            # What becomes of its numbers is not the question.
            with suppress(ValueError, TypeError, *_NONSENSE), np.errstate(all="ignore"):
                decode_columns(bytes(given), COLUMNS, terms=2, rows=block["rows"])


def frames(packed: bytes) -> tuple[int, bytes, bytes]:
    """A packed block's kind, and what is compressed: how it is, versions of Zstandard decide."""
    stop = 5 + int.from_bytes(packed[1:5], "little")
    return packed[0], zstd.decompress(packed[5:stop]), zstd.decompress(packed[stop:])


@pytest.mark.parametrize("block", stored("3"))
def test_what_is_written_is_what_older_code_wrote(block: Mapping[str, Any]) -> None:
    steps = decode(block, "plain")
    assert encode_block(steps, packed=False) == payload(block, "plain")
    assert frames(encode_block(steps, packed=True)) == frames(payload(block, "packed"))
    assert encode_rollups(roll_up(steps)) == payload(block, "rollup")
