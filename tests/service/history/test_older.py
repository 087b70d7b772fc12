"""Blocks and rollups that older versions wrote, each beside the same block stored plainly."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penaltyscope_events import StepBlock
from penaltyscope_service.history._payload import decode_block, decode_columns
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.history._rollup_bytes import decode_rollups
from penaltyscope_service.history._rollup_bytes_2 import rollup_bytes_1, with_head
from tests.service.steps import same_steps

TERMS = ("a", "b")
WIDTH = 3 + 3 * len(TERMS)


def stored() -> list[Any]:
    return [
        pytest.param(block, id=f"{path.stem}-{name}")
        for path in sorted((Path(__file__).parent / "older").glob("*.json"))
        for name, block in json.loads(path.read_text()).items()
    ]


def payload(block: Mapping[str, Any], form: str) -> bytes:
    return base64.b64decode(block[form])


def decode(block: Mapping[str, Any], form: str) -> StepBlock:
    return decode_block(
        payload(block, form), pipeline="p", incarnation="i", terms=TERMS, rows=block["rows"]
    )


@pytest.mark.parametrize("block", stored())
def test_a_block_of_an_older_version_is_read_to_the_last_bit(block: Mapping[str, Any]) -> None:
    assert payload(block, "packed")[0] == 2
    assert same_steps(decode(block, "packed"), decode(block, "plain"))
    columns = decode_columns(payload(block, "packed"), ["total"], terms=2, rows=block["rows"])
    assert columns["total"].tobytes() == decode(block, "plain").total.tobytes()


@pytest.mark.parametrize("block", stored())
def test_a_rollup_of_an_older_version_says_the_same(block: Mapping[str, Any]) -> None:
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
