"""The bytes are held against OpenTelemetry's own messages."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from penaltyscope_events import (
    AttributeValue,
    Event,
    PlainSteps,
    RunIdentity,
    StepBlock,
    encode_events,
    encode_request,
    encode_steps,
    names,
    resource_attributes,
    step_events,
)
from penaltyscope_events._digits import stand_in, stand_ins
from penaltyscope_events._protobuf import varint

IDENTITY = RunIdentity(
    run_id="résumé-7",
    rank=3,
    world_size=8,
    attempt=1,
    service_name="trainer",
    instance_id="abc",
    host_name="node-1",
    tags={"model": "tiny", "": "empty key"},
)


def block(steps: int, terms: int, *, seed: int = 0) -> StepBlock:
    random = np.random.default_rng(seed)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308])
    value = random.normal(size=(steps, terms))
    value[random.random(value.shape) < 0.2] = random.choice(special)
    return StepBlock(
        pipeline="p" * 200,  # a length of two bytes
        incarnation="i-1",
        terms=tuple(f"term {t}" for t in range(terms)),
        step=random.integers(0, 2**40, steps),
        seq=np.arange(steps) + 2**14,
        stop_ns=np.arange(steps) * 10**6 + 1_700_000_000_000_000_000,
        duration=random.random(steps),
        base=random.normal(size=steps),
        has_base=random.random(steps) < 0.5,
        total=random.normal(size=steps),
        total_gradient_norm=random.random(steps),
        value=value,
        weight=random.normal(size=(steps, terms)),
        contribution=random.normal(size=(steps, terms)),
        gradient_norm=random.random((steps, terms)),
        flags=random.integers(0, 256, (steps, terms)).astype(np.int32)
        * (random.random((steps, 1)) < 0.5),
    )


def plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(plain(item) for item in value.array_value.values)
    return getattr(value, str(kind))


def attributes(message: Message) -> dict[str, object]:
    entries: list[KeyValue] = list(message.attributes)  # type: ignore[attr-defined]
    decoded = {entry.key: plain(entry.value) for entry in entries}
    assert len(decoded) == len(entries), "no attribute comes twice"
    return decoded


def same(decoded: Mapping[str, object], expected: Mapping[str, AttributeValue]) -> None:
    # NaN equals nothing, so the comparison is of what is printed: exact for doubles.
    assert {k: repr(v) for k, v in decoded.items()} == {k: repr(v) for k, v in expected.items()}


@pytest.mark.parametrize("steps", [1, 2, 64])
@pytest.mark.parametrize("terms", [0, 1, 8, 40])
def test_steps_decode_to_their_records(steps: int, terms: int) -> None:
    same_records(block(steps, terms))


def test_numbers_of_any_length_follow_each_other() -> None:
    limits = [
        bound for digits in range(1, 10) for bound in (2 ** (7 * digits) - 1, 2 ** (7 * digits))
    ]
    limits = [0, *limits[:-1], 2**63 - 1, -1, -(2**63)]
    column = np.array(limits, np.int64)
    same_records(replace(block(len(limits), 2), step=column, seq=column[::-1]))


@pytest.mark.parametrize("has_base", [True, False])
def test_steps_without_flags_or_spans_decode_to_their_records(has_base: bool) -> None:
    original = block(40, 3)
    alike = replace(
        original,
        step=np.arange(100, 140),  # of one byte, then of two
        flags=np.zeros_like(original.flags),
        has_base=np.full(40, has_base),
        base=np.where(np.arange(40) % 7 == 3, np.inf, original.base),
    )
    same_records(alike, spans=False)
    same_records(replace(alike, step=original.step % 2**14 + 2**14), spans=False)


@pytest.mark.parametrize("has_base", [True, False])
@pytest.mark.parametrize("first", [0, 100, 2**14, 2**40])  # that of 100 grows to two bytes
@pytest.mark.parametrize(("count", "terms"), [(40, 3), (1, 1), (40, 0), (0, 2), (300, 2)])
def test_plain_steps_are_encoded_as_their_block_is(
    has_base: bool, first: int, count: int, terms: int
) -> None:
    steps = plain_steps(first, count, terms, has_base=has_base)
    assert encode_steps(steps) == encode_steps(steps.block())
    spans = [None, (b"t" * 16, b"s" * 8)] * count
    assert encode_steps(steps, spans[:count]) == encode_steps(steps.block(), spans[:count])
    same_records(steps.block(), spans=False)


@pytest.mark.parametrize("count", [40, 7, 128])
def test_plain_steps_hold_nothing_of_those_before(count: int) -> None:
    for seed, first in enumerate((16_500, 20_000, 16_384)):  # of one template
        steps = plain_steps(first, count, 3, seed=seed)
        assert encode_steps(steps) == encode_steps(steps.block())


def test_plain_steps_may_stand_still_or_go_back() -> None:
    for step in (np.full(40, 300), np.arange(300, 260, -1), np.arange(2**14 + 20, 2**14 - 20, -1)):
        steps = replace(plain_steps(0, 40, 2), step=step)
        assert encode_steps(steps) == encode_steps(steps.block())
        same_records(steps.block(), spans=False)


def test_steps_may_jump_over_thousands_and_leave_nothing_behind() -> None:
    # The copies are those of the steps before, whose higher digits were the same, or were not.
    for stride in (1, 20_000, 1, 700, 3, 2**20):
        steps = replace(plain_steps(0, 40, 2), step=2**25 + stride * np.arange(40))
        assert encode_steps(steps) == encode_steps(steps.block())
        same_records(steps.block(), spans=False)


def test_plain_steps_of_everything_else_take_turns() -> None:
    first = plain_steps(300, 40, 2)
    others = [
        first,
        replace(first, pipeline="other"),
        replace(first, incarnation="i-2"),
        replace(first, weights=(1.0, 3.0)),
        replace(first, has_base=False),
        replace(first, terms=("term 0", "other")),
        replace(first, step=range(300, 340)),
        replace(first, step=range(2**14 + 300, 2**14 + 340)),
        replace(first, step=range(-40, 0)),
        replace(first, seq=range(2**63 - 40, 2**63)),
        plain_steps(300, 40, 3),
    ]
    for steps in (*others, *reversed(others)):
        assert encode_steps(steps) == encode_steps(steps.block())
        same_records(steps.block(), spans=False)


@pytest.mark.parametrize("bits", [7, 14, 21, 28, 35, 56])
def test_numbers_one_after_the_other_may_pass_any_limit(bits: int) -> None:
    for first in (2**bits - 41, 2**bits - 40, 2**bits - 20, 2**bits - 1, 2**bits, 3 * 2**bits - 20):
        steps = replace(plain_steps(0, 40, 2), step=range(first, first + 40))
        assert encode_steps(steps) == encode_steps(steps.block())
        assert encode_steps(steps) == encode_steps(replace(steps, step=np.array(steps.step)))
        same_records(steps.block(), spans=False)


@pytest.mark.parametrize("number", [0, 1, *(2**n - d for n in range(7, 64, 7) for d in (0, 1)), -1])
def test_a_stand_in_takes_as_many_bytes(number: int) -> None:
    least = stand_in(number)
    assert len(varint(least)) == len(varint(number))
    assert least <= max(number, 0)
    assert stand_in(least) == least == stand_ins(np.array([number]))[0]


def plain_steps(
    first: int, count: int, terms: int, *, has_base: bool = True, seed: int = 0
) -> PlainSteps:
    random = np.random.default_rng(seed)
    cells = random.random((count, 6 + 3 * terms))
    times = cells.view(np.int64)
    times[:, 1] = 1_700_000_000_000_000_000 + np.arange(count)
    times[:, 0] = times[:, 1] - (cells[:, 2] * 1e9).astype(np.int64)
    return PlainSteps(
        pipeline="p",
        incarnation="i",
        terms=tuple(f"term {t}" for t in range(terms)),
        weights=tuple(np.arange(1.0, terms + 1).tolist()),
        has_base=has_base,
        step=np.arange(first, first + count),
        seq=range(count),
        cells=cells,
    )


def same_records(original: StepBlock, *, spans: bool = True) -> None:
    steps = len(original)
    traces = [
        (bytes([i + 1]) * 16, bytes([i + 1]) * 8) if spans and i % 2 else None for i in range(steps)
    ]
    request = ExportLogsServiceRequest.FromString(
        encode_request(IDENTITY, [encode_steps(original, traces)])
    )
    (resource,) = request.resource_logs
    same(attributes(resource.resource), resource_attributes(IDENTITY))
    (scope,) = resource.scope_logs
    assert (scope.scope.name, scope.scope.version) == (names.SCOPE_NAME, names.SCHEMA_VERSION)
    same(attributes(scope.scope), {names.TERM_NAMES: original.terms})
    expected = [event for pair in step_events(original) for event in pair]
    assert len(scope.log_records) == len(expected)
    for i, (record, event) in enumerate(zip(scope.log_records, expected, strict=True)):
        check(record, event)
        trace = traces[i // 2] or (b"", b"")
        assert (record.trace_id, record.span_id) == trace


def check(record: LogRecord, event: Event) -> None:
    assert record.event_name == event.name
    assert record.time_unix_nano == record.observed_time_unix_nano == event.time_ns
    assert record.severity_number == (17 if event.error else 9)
    same(attributes(record), event.attributes)


def test_no_steps_are_no_records() -> None:
    empty = block(1, 2).take(slice(0))
    request = ExportLogsServiceRequest.FromString(encode_request(IDENTITY, [encode_steps(empty)]))
    assert not request.resource_logs[0].scope_logs[0].log_records


def test_events_carry_every_type_of_attribute() -> None:
    event = Event(
        name=names.RUN_END,
        time_ns=2**63,
        error=True,
        attributes={
            "text": "a\ud800b",  # a lone surrogate has no UTF-8: replaced, never an error
            "yes": True,
            "no": False,
            "negative": -3,
            "large": 2**63 - 1,
            "number": float("-inf"),
            "texts": ("a", "b"),
            "ints": (1, -1),
            "nothing": (),
        },
    )
    request = ExportLogsServiceRequest.FromString(
        encode_request(RunIdentity(run_id="r"), [encode_events([event])])
    )
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    decoded = attributes(record)
    assert decoded.pop("text") == "a?b"
    assert record.time_unix_nano == 2**63
    same(decoded, {k: v for k, v in event.attributes.items() if k != "text"})


def test_an_identity_without_a_host_sends_no_empty_attribute() -> None:
    assert names.HOST_NAME not in resource_attributes(RunIdentity(run_id="r"))
