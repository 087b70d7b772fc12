"""Lines are held against what was written, against a plain JSON parser, and against pandas."""

import dataclasses
import io
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from penaltyscope_events import (
    COLUMNS,
    AttributeValue,
    Event,
    InvalidLineError,
    RunIdentity,
    StepBlock,
    event_lines,
    names,
    read_lines,
    step_lines,
)
from tests.events.test_encode import IDENTITY, block

Item = tuple[RunIdentity, StepBlock | Event]


def read(text: bytes) -> list[Item]:
    return list(read_lines(io.BytesIO(text)))


def assert_same(read: StepBlock | Event, written: StepBlock) -> None:
    assert isinstance(read, StepBlock)
    assert (read.pipeline, read.incarnation, read.terms) == (
        written.pipeline,
        written.incarnation,
        written.terms,
    )
    for column in COLUMNS:
        got, expected = getattr(read, column), getattr(written, column)
        if column == "base":
            got, expected = got[read.has_base], expected[written.has_base]
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=column)


@pytest.mark.parametrize(("steps", "terms"), [(1, 1), (3, 0), (64, 8), (1024, 2)])
def test_steps_come_back_as_they_were_to_the_last_bit(steps: int, terms: int) -> None:
    written = block(steps, terms)
    ((identity, back),) = read(step_lines(IDENTITY, written))
    assert identity == IDENTITY
    assert_same(back, written)


def test_events_come_back_as_they_were() -> None:
    attributes: dict[str, AttributeValue] = {
        names.STATUS: "NaN",  # a string is a string
        names.OVERHEAD: float("-inf"),
        "whole": 2.0,
        "count": -(2**63),
        "yes": True,
        "strings": ("a", ""),
        "ints": (1, 2),
        "doubles": (1.0, float("inf")),
        "line\nend": "\ud800",  # half of a pair: nothing of UTF-8
    }
    written = Event(name=names.RUN_END, time_ns=2**63 - 1, attributes=attributes, error=True)
    text = event_lines(IDENTITY, [written, Event(name="x", time_ns=0)])
    assert text.count(b"\n") == 2
    first, second = read(text)
    assert first == (
        IDENTITY,
        dataclasses.replace(written, attributes=attributes | {"line\nend": "?"}),
    )
    assert second == (IDENTITY, Event(name="x", time_ns=0))


def test_every_line_stands_alone() -> None:
    written = block(5, 2)
    lines = step_lines(IDENTITY, written).splitlines(keepends=True)
    other = dataclasses.replace(IDENTITY, rank=4)
    items = read(
        b"".join(
            [
                *lines[3:],
                *event_lines(other, [Event(name="x", time_ns=1)]).splitlines(keepends=True),
                *lines[:3],
            ]
        )
    )
    assert [identity.rank for identity, _ in items] == [3, 4, 3]
    assert_same(items[0][1], written.take(slice(3, 5)))
    assert_same(items[2][1], written.take(slice(0, 3)))


@pytest.mark.parametrize(
    "change",
    [
        lambda b: dataclasses.replace(b, pipeline="other"),
        lambda b: dataclasses.replace(b, incarnation="other"),
        lambda b: dataclasses.replace(b, terms=("a", "b")),
    ],
)
def test_a_block_ends_where_its_steps_are_of_another_kind(
    change: Callable[[StepBlock], StepBlock],
) -> None:
    first = block(2, 2)
    second = change(first)
    items = read(step_lines(IDENTITY, first) + step_lines(IDENTITY, second))
    assert len(items) == 2
    assert_same(items[1][1], second)


def test_a_block_holds_at_most_1024_steps() -> None:
    items = read(step_lines(IDENTITY, block(1030, 1)))
    assert [len(item) for _, item in items if isinstance(item, StepBlock)] == [1024, 6]


def test_a_line_is_what_the_document_says() -> None:
    written = block(1, 2)
    written = dataclasses.replace(
        written,
        value=np.array([[np.nan, -np.inf]]),
        weight=np.array([[1.0, 1e300]]),
        base=np.array([np.inf]),
        has_base=np.array([True]),
    )
    trace = (bytes(range(16)), bytes(range(8)))
    line = json.loads(step_lines(IDENTITY, written, [trace]), parse_constant=pytest.fail)
    assert line["schema"] == "1"
    assert line["event"] == names.PIPELINE_STOP
    assert (line["run"], line["rank"], line["world_size"], line["attempt"]) == ("résumé-7", 3, 8, 1)
    assert (line["service"], line["instance"], line["host"]) == ("trainer", "abc", "node-1")
    assert line["tags"] == {"model": "tiny", "": "empty key"}
    assert line["time_ns"] == int(written.stop_ns[0])
    assert line["base"] == "Infinity"
    assert line["term_value"] == ["NaN", "-Infinity"]
    assert line["term_weight"] == [1.0, 1e300]
    assert (line["trace_id"], line["span_id"]) == (trace[0].hex(), trace[1].hex())
    assert set(line) == {
        *("schema", "event", "run", "rank", "world_size", "attempt", "tags", "service"),
        *("instance", "host", "time_ns", "pipeline", "incarnation", "seq", "step", "duration"),
        *("base", "total", "total_gradient_norm", "term_names", "term_value", "term_weight"),
        *("term_contribution", "term_gradient_norm", "term_flags", "trace_id", "span_id"),
    }


def test_without_a_task_loss_base_is_null() -> None:
    written = dataclasses.replace(block(1, 1), has_base=np.array([False]))
    assert json.loads(step_lines(IDENTITY, written))["base"] is None


def test_half_a_line_at_the_end_is_passed_over() -> None:
    text = step_lines(IDENTITY, block(2, 1))
    ((_, back),) = read(text[:-10])
    assert isinstance(back, StepBlock)
    assert len(back) == 1
    assert read(b"\r\n \n" + text[:10]) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "2"}, "schema must be '1', got '2'"),
        ({"event": 1}, "event must be a non-empty string, got 1"),
        ({"run": ""}, "run must be a non-empty string, got ''"),
        ({"rank": "0"}, "rank must be an integer from"),
        ({"seq": 2**63}, "seq must be an integer from"),
        ({"step": True}, "step must be an integer from"),
        ({"tags": {"a": 1}}, "tags must be an object of strings"),
        ({"total": "nan"}, "total must be an integer"),
        ({"total": None}, "total must be"),
        ({"term_value": [1.0]}, "term_value must be an array of 2"),
        ({"term_names": ["a", 1]}, "term_names must be an array of strings"),
        ({"term_flags": [0, -1]}, "term_flags must be an integer from 0"),
        ({"event": "x"}, "attributes must be an object, got None"),
        ({"event": "x", "attributes": {"a": [1, "b"]}}, "a must be an array of one type"),
        ({"event": "x", "attributes": {"a": {"double": "b"}}}, "a must be"),
        ({"event": "x", "attributes": {}, "error": 1}, "error must be a boolean, got 1"),
    ],
)
def test_a_line_that_is_not_of_this_format_is_named(
    change: dict[str, object], message: str
) -> None:
    good = step_lines(IDENTITY, block(1, 2))
    bad = json.dumps(json.loads(good) | change).encode() + b"\n"
    with pytest.raises(InvalidLineError, match=f"line 2: {message}"):
        read(good + bad)
    passed_over: list[int] = []
    back = list(
        read_lines(io.BytesIO(good + bad + good), on_invalid=lambda n, _: passed_over.append(n))
    )
    assert passed_over == [2]
    assert sum(len(item) for _, item in back if isinstance(item, StepBlock)) == 2


@pytest.mark.parametrize(
    "line", [b"{\n", b"[]\n", b'{"total": NaN}\n', b"\xff\n", b"[" * 10**5 + b"\n"]
)
def test_what_is_no_object_of_json_is_named(line: bytes) -> None:
    with pytest.raises(InvalidLineError, match="line 1: it must be"):
        read(line)


def test_pandas_reads_it_as_the_document_shows() -> None:
    written = block(50, 3)
    text = event_lines(IDENTITY, [Event(name=names.RUN_START, time_ns=1)])
    lines = pd.read_json(
        io.BytesIO(text + step_lines(IDENTITY, written)), lines=True, precise_float=True
    )
    steps = lines[lines["event"] == names.PIPELINE_STOP]
    columns = ["term_names", "term_value", "term_weight", "term_gradient_norm", "term_flags"]
    terms = steps.explode(columns).astype({"term_value": float, "term_gradient_norm": float})
    assert steps["time_ns"].tolist() == written.stop_ns.tolist()
    assert terms["term_names"].tolist() == [*written.terms] * 50
    np.testing.assert_array_equal(terms["term_value"], written.value.ravel())
    np.testing.assert_array_equal(terms["term_flags"], written.flags.ravel())
