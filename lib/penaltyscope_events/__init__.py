"""The wire contract between training job and service: standard library, numpy, ISA-L if present."""

from penaltyscope_events._members import InvalidLineError
from penaltyscope_events.block import COLUMNS, AttributeValue, Event, RunIdentity, StepBlock
from penaltyscope_events.encode import (
    enclose,
    encode_events,
    encode_request,
    encode_resource,
    encode_steps,
)
from penaltyscope_events.flags import (
    ALL_FLAGS,
    FINDINGS,
    NONFINITE,
    Finding,
    TermFlag,
    complete_flags,
)
from penaltyscope_events.jsonl import event_lines, step_lines
from penaltyscope_events.jsonl_reader import read_lines
from penaltyscope_events.plain import PlainSteps
from penaltyscope_events.records import resource_attributes, step_events

__all__ = [
    "ALL_FLAGS",
    "COLUMNS",
    "FINDINGS",
    "NONFINITE",
    "AttributeValue",
    "Event",
    "Finding",
    "InvalidLineError",
    "PlainSteps",
    "RunIdentity",
    "StepBlock",
    "TermFlag",
    "complete_flags",
    "enclose",
    "encode_events",
    "encode_request",
    "encode_resource",
    "encode_steps",
    "event_lines",
    "read_lines",
    "resource_attributes",
    "step_events",
    "step_lines",
]
