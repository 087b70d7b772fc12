"""Every name on the wire, defined once.

Events are OpenTelemetry log records with an ``event_name``; their attributes and those of the
resource are listed here with type and unit. Reference: OpenTelemetry logs data model.
"""

from typing import Final

SCOPE_NAME: Final = "penaltyscope"
SCHEMA_VERSION: Final = "1"
"""Version of the instrumentation scope: the version of this wire format, not of the library."""

SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
HOST_NAME: Final = "host.name"
RUN_ID: Final = "penaltyscope.run.id"
RUN_TAG_PREFIX: Final = "penaltyscope.run.tag."
RANK: Final = "penaltyscope.rank"
WORLD_SIZE: Final = "penaltyscope.world_size"
ATTEMPT: Final = "penaltyscope.attempt"
"""int, from 0: which try at the same run (a resumed job raises it)."""

RUN_START: Final = "penaltyscope.run.start"
RUN_HEARTBEAT: Final = "penaltyscope.run.heartbeat"
RUN_END: Final = "penaltyscope.run.end"
PIPELINE_START: Final = "penaltyscope.pipeline.start"
PIPELINE_STOP: Final = "penaltyscope.pipeline.stop"
PIPELINE_EXCEPTION: Final = "penaltyscope.pipeline.exception"
INCIDENT: Final = "penaltyscope.incident"

PIPELINE: Final = "penaltyscope.pipeline"
STEP: Final = "penaltyscope.step"
SEQ: Final = "penaltyscope.seq"
"""int: evaluations of this pipeline since the recorder's start: from 0, +1, never reused."""
INCARNATION: Final = "penaltyscope.incarnation"
"""string: new for every start of a recorder, so that ``seq`` may begin again."""
DURATION: Final = "penaltyscope.duration"
"""double, seconds on the training thread from the start of the evaluation to its stop."""
BASE: Final = "penaltyscope.base"
"""double: the task loss; absent when the pipeline was called without one."""
TOTAL: Final = "penaltyscope.total"
TOTAL_GRADIENT_NORM: Final = "penaltyscope.total_gradient_norm"

TERM_COUNT: Final = "penaltyscope.term.count"
TERM_NAMES: Final = "penaltyscope.term.names"
"""string[T]; on the record, or once on the instrumentation scope."""
TERM_VALUE: Final = "penaltyscope.term.value"
TERM_WEIGHT: Final = "penaltyscope.term.weight"
TERM_CONTRIBUTION: Final = "penaltyscope.term.contribution"
TERM_GRADIENT_NORM: Final = "penaltyscope.term.gradient_norm"
TERM_FLAGS: Final = "penaltyscope.term.flags"
"""int[T], bits of :class:`~penaltyscope_events.flags.TermFlag`; absent when no bit is set."""

TERM: Final = "penaltyscope.term"
"""string on a metric: the term's name."""
STAGE: Final = "penaltyscope.stage"
"""string on a metric: ``input``, ``value`` or ``gradient``."""
KIND: Final = "penaltyscope.kind"
"""string on a metric: ``nan`` or ``inf``."""

STATUS: Final = "penaltyscope.status"
"""string on ``run.end``: ``finished``, ``failed`` or ``interrupted``."""
DROPPED_STEPS: Final = "penaltyscope.recorder.dropped_steps"
"""int on ``run.heartbeat`` and ``run.end``: evaluations lost by the recorder, since its start."""
OVERHEAD: Final = "penaltyscope.recorder.overhead"
"""double on ``run.heartbeat`` and ``run.end``: seconds the training thread has spent recording."""

EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

BASE_TERM: Final = "base"
"""The name under which a non-finite task loss is reported; no term may carry it."""
