"""Which span an evaluation belongs to: looked at on the training thread, read on the recorder's."""

from collections.abc import Callable, Sequence
from contextvars import copy_context

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import get_current_span

from penaltyscope.telemetry._channel import Trace

ReadContext = Callable[[None], Context | None]


def context_reader() -> ReadContext:
    """The quickest way to OpenTelemetry's current context: the variable that it is kept in.

    What it returns is to be called with None, and returns None where no context was ever attached.
    """
    token = attach(mark := Context())
    try:
        found = next((var for var, value in copy_context().items() if value is mark), None)
    finally:
        detach(token)
    # A runtime of somebody's own may keep it elsewhere.
    return (lambda _: get_current()) if found is None else found.get


def traces(contexts: Sequence[Context | None]) -> tuple[tuple[Trace, ...], tuple[bool, ...]]:
    """The span of each step, and whether it is kept."""
    # Steps of one span share a context, and most often nobody traces at all.
    if contexts and contexts.count(contexts[0]) == len(contexts):
        trace, sampled = trace_of(contexts[0])
        return (trace,) * len(contexts), (sampled,) * len(contexts)
    known = {id(context): trace_of(context) for context in {id(c): c for c in contexts}.values()}
    each = [known[id(context)] for context in contexts]
    return tuple(trace for trace, _ in each), tuple(sampled for _, sampled in each)


def trace_of(context: Context | None) -> tuple[Trace, bool]:
    """The span that a context holds, and whether it is kept."""
    if context is None:
        return None, True
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return None, True
    ids = span.trace_id.to_bytes(16, "big"), span.span_id.to_bytes(8, "big")
    return ids, span.trace_flags.sampled
