"""Reading in columns is a shortcut: it must make of any bytes what protobuf makes of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from penaltyscope_events import (
    Event,
    RunIdentity,
    StepBlock,
    TermFlag,
    encode_events,
    encode_request,
    encode_steps,
    names,
)
from penaltyscope_service.decode import Decoded, InvalidRequestError, _request, decode_logs
from penaltyscope_service.decode._columns import Columns
from penaltyscope_service.decode._protobuf import read_familiar, read_protobuf
from penaltyscope_service.decode._stock import read_stock
from tests.service.blocks import make_block, make_request
from tests.service.decode.messages import TIME_NS, encode, record, stop
from tests.service.steps import blocks, make_steps, same_steps

PROTOBUF: Final = "application/x-protobuf"
IDENTITY = RunIdentity(run_id="r")


def decode_stock(body: bytes) -> Decoded | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_request, "_READERS", {PROTOBUF: read_stock})
        patch.setattr(_request, "read_familiar", lambda _: None)
        return decode_quick(body)


def decode_quick(body: bytes) -> Decoded | str:
    """What comes out, or why nothing does."""
    try:
        return decode_logs(body, PROTOBUF, received_ns=7)
    except InvalidRequestError as error:
        return str(error)


def same(a: Decoded | str, b: Decoded | str) -> bool:
    """Whether they are equal to the last bit."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    if (a.received, a.refused, a.message) != (b.received, b.refused, b.message):
        return False
    if [batch.identity for batch in a.batches] != [batch.identity for batch in b.batches]:
        return False
    for one, other in zip(a.batches, b.batches, strict=True):
        if repr(one.events) != repr(other.events) or len(one.steps) != len(other.steps):
            return False
        if not all(map(same_steps, one.steps, other.steps)):
            return False
    return True


def means_the_same(body: bytes) -> bool:
    """Whether it is decoded as protobuf does it, also once it is familiar."""
    stock = decode_stock(body)
    return all(same(decode_quick(body), stock) for _ in range(2))


def in_columns(body: bytes) -> int:
    """How many stop records are read in columns."""
    return sum(
        item.repeats
        for resource in read_protobuf(body)
        for scope in resource.scopes
        for item in scope.records
        if isinstance(item, Columns) and item.pattern.plan is not None
    )


@st.composite
def stops(draw: st.DrawFn) -> LogRecord:
    """Stop records, good ones and such as have something missing, strange or too much."""
    number = st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.just("text"))
    small = st.integers(0, 300)
    count = draw(st.sampled_from([2, 2, 2, 1, 3]))
    array = st.one_of(
        st.lists(st.floats(), min_size=count, max_size=count), st.lists(number, max_size=3)
    )
    changes: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {
                "penaltyscope.step": st.one_of(small, st.integers(-(2**63), 2**63 - 1)),
                "penaltyscope.seq": small,
                "penaltyscope.duration": st.one_of(st.floats(0, 10), number),
                "penaltyscope.term.value": array,
            },
            optional={
                "penaltyscope.base": number,
                "penaltyscope.total_gradient_norm": number,
                "penaltyscope.term.gradient_norm": array,
                "penaltyscope.term.flags": st.lists(small, max_size=3),
                "penaltyscope.pipeline": st.sampled_from(["a", "b", "", "c" * 300, 1]),
                "another": st.one_of(st.booleans(), st.text(max_size=3), array),
            },
        )
    )
    without = draw(st.sampled_from(["", "", "", *names_of_stop()]))
    made = stop(changes, without=without)
    made.time_unix_nano = draw(st.sampled_from([0, TIME_NS, TIME_NS + 1, 2**63, 2**64 - 1]))
    made.observed_time_unix_nano = draw(st.sampled_from([0, 5, 2**64 - 1]))
    made.severity_number = draw(st.sampled_from([0, 9, 17]))  # type: ignore[assignment]
    made.trace_id = draw(st.sampled_from([b"", bytes(16), b"x" * 16]))
    return made


def names_of_stop() -> list[str]:
    """Attributes that may be left out."""
    return [names.STEP, names.TOTAL, names.TERM_NAMES, names.TERM_WEIGHT, names.TERM_CONTRIBUTION]


OTHERS = st.sampled_from(
    [
        record("penaltyscope.pipeline.start", {"penaltyscope.step": 3}),
        record("penaltyscope.pipeline.start", {"penaltyscope.step": 300}),
        record("penaltyscope.run.heartbeat", {"penaltyscope.recorder.overhead": 0.5}),
        record("another", {"penaltyscope.step": 1}),
        record("", {}),
    ]
)
RECORDS = st.lists(st.tuples(st.one_of(stops(), OTHERS), st.integers(1, 3)), max_size=6)


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.booleans())
def test_any_records_mean_what_they_mean_to_protobuf(
    drawn: Sequence[tuple[LogRecord, int]], scoped: bool
) -> None:
    repeated = [one for one, times in drawn for _ in range(times)]
    scope = {"penaltyscope.term.names": ["p", "q"]} if scoped else {}
    body = encode(PROTOBUF, *repeated, scope=scope)

    assert means_the_same(body)


@settings(max_examples=40, deadline=None)
@given(st.lists(blocks(), max_size=3), st.booleans())
def test_what_the_library_writes_means_what_it_means_to_protobuf(
    written: Sequence[StepBlock], with_events: bool
) -> None:
    scopes = [encode_steps(_possible(block)) for block in written]
    if with_events:
        scopes.insert(1, encode_events([Event(name=names.RUN_HEARTBEAT, time_ns=5)]))
    body = encode_request(IDENTITY, scopes)

    assert means_the_same(body)


def _possible(block: StepBlock) -> StepBlock:
    """With times as a clock may show them."""
    duration = np.minimum(block.duration, 1e4)
    return replace(block, duration=duration, stop_ns=block.stop_ns % 2**62 + 2**61)


GOOD = make_request(make_block(steps=4))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, 3),
)
def test_damaged_bytes_mean_what_they_mean_to_protobuf(
    damage: Sequence[tuple[int, int]], lost: int
) -> None:
    assert isinstance(decode_quick(GOOD), Decoded)  # from here on it is familiar
    broken = bytearray(GOOD)
    for place, byte in damage:
        broken[place] = byte
    body = bytes(broken[: len(broken) - lost])

    assert means_the_same(body)


def test_a_block_of_the_library_is_read_in_columns_whatever_its_length() -> None:
    for steps in (1, 2, 15, 64, 300):
        assert in_columns(make_request(make_block(steps, first=1000))) == steps


def test_a_request_is_familiar_where_only_numbers_are_new() -> None:
    decode_logs(make_request(make_block(30, first=1000)), PROTOBUF)

    familiar = read_familiar(make_request(make_block(30, first=1100)))

    assert familiar is not None
    assert (familiar.columns.repeats, familiar.plan.terms) == (30, 2)
    other_run = make_request(make_block(30, first=1100), run="never heard of")
    longer = make_request(make_block(31, first=1100))
    wider = make_request(make_block(30, first=2000))
    assert [read_familiar(body) for body in (other_run, longer, wider, b"")] == [None] * 4


def test_a_familiar_request_with_one_odd_bit_is_not_familiar() -> None:
    decode_logs(make_request(make_block(3, first=1000)), PROTOBUF)
    body = make_request(make_block(3, first=1100))
    assert read_familiar(body) is not None
    for part in (b"penaltyscope.step", b"penaltyscope.term.value"):
        for place in (body.find(part), body.rfind(part)):
            odd = body[:place] + b"P" + body[place + 1 :]
            assert read_familiar(odd) is None
            assert means_the_same(odd)


def test_records_of_a_stock_exporter_are_read_in_columns() -> None:
    made = [stop({"penaltyscope.seq": seq}) for seq in range(5)]
    assert in_columns(encode(PROTOBUF, *made)) == 5


def test_numbers_that_grow_wider_and_findings_do_not_end_the_columns() -> None:
    seq = list(range(120, 136))
    value = np.ones((16, 2))
    value[3, 1] = np.nan
    block = make_steps(seq, step=[s * 1000 for s in seq], value=value)
    body = make_request(block)

    assert in_columns(body) == 16
    ((steps,),) = (batch.steps for batch in decode_logs(body, PROTOBUF).batches)
    assert same_steps(steps, block)


def test_every_flag_there_is_can_be_read_in_columns() -> None:
    flags = [[1, int(bit)] for bit in TermFlag]
    block = make_steps(range(100, 100 + len(flags)), flags=flags)
    body = make_request(block)

    assert in_columns(body) == len(flags)
    ((steps,),) = (batch.steps for batch in decode_logs(body, PROTOBUF).batches)
    assert same_steps(steps, block)


def test_a_run_ends_where_a_record_is_different() -> None:
    blocks = [make_block(100), make_block(40, incarnation="other", first=100), make_block(3)]
    body = make_request(*blocks)

    ((batch),) = decode_logs(body, PROTOBUF).batches
    assert [(b.incarnation, len(b)) for b in batch.steps] == [("first", 103), ("other", 40)]
    assert in_columns(body) == 143


def test_one_bad_record_among_many_is_refused_alone() -> None:
    block = make_block(70)
    duration = block.duration.copy()
    duration[66] = -1.0

    decoded = decode_logs(make_request(replace(block, duration=duration)), PROTOBUF)

    assert decoded.refused == {"invalid_value": 1}
    assert decoded.message.startswith("record 134 (penaltyscope.pipeline.stop): penaltyscope.durat")
    ((steps,),) = (batch.steps for batch in decoded.batches)
    assert steps.seq.tolist() == [i for i in range(70) if i != 66]


def test_what_no_usual_encoder_writes_is_left_to_protobuf() -> None:
    message = ExportLogsServiceRequest.FromString(GOOD)
    message.resource_logs[0].schema_url = "https://example.org/schema"
    body = message.SerializeToString()

    assert in_columns(body) == 0
    assert len(decode_logs(body, PROTOBUF).batches[0].steps[0]) == 4


def test_names_differ_between_processes_whose_records_are_alike() -> None:
    for pipeline, incarnation in (("one", "aa"), ("two", "bb"), ("tür"[:2] + "r", "cc")):
        block = make_block(3, pipeline=pipeline, incarnation=incarnation)
        ((steps,),) = (b.steps for b in decode_logs(make_request(block), PROTOBUF).batches)
        assert same_steps(steps, block)


def test_a_name_that_is_no_text_refuses_the_request() -> None:
    body = make_request(make_block(3, pipeline="plain"))
    assert in_columns(body) == 3

    for place in (body.find(b"plain"), body.rfind(b"plain")):
        broken = body[:place] + b"\xff" + body[place + 1 :]
        assert str(decode_quick(broken)).startswith("body must be a protobuf Export")


def test_a_name_that_is_no_text_refuses_a_request_of_starts_alone() -> None:
    starts = [record(names.PIPELINE_START, {names.PIPELINE: "plain"}) for _ in range(3)]
    body = encode(PROTOBUF, *starts)
    assert decode_logs(body, PROTOBUF).received == {"pipeline.start": 3}

    broken = body.replace(b"plain", b"pl\xffin")
    assert str(decode_quick(broken)).startswith("body must be a protobuf Export")
