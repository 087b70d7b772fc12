"""The one call that puts a training job under observation."""

import atexit
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import torch

from penaltyscope.attribution import Probe
from penaltyscope.pipeline import Pipeline
from penaltyscope.telemetry._channel import Channel
from penaltyscope.telemetry._environment import disabled, resource_attributes
from penaltyscope.telemetry._events import OTLP, Exporter
from penaltyscope.telemetry._fanout import FanOut
from penaltyscope.telemetry._recorder import Recorder, describe
from penaltyscope.telemetry._sink import Sink, Source
from penaltyscope_events import AttributeValue, RunIdentity, names

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter

_logger = logging.getLogger("penaltyscope")

_CLOSE_SECONDS = 2.0


def watch(
    *pipelines: Pipeline,
    run: str | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    probes: Iterable[Probe] = (),
    tags: Mapping[str, str] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    attempt: int | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
    exporter: "LogRecordExporter | None" = None,
    sinks: Sequence[Sink] | None = None,
    spool: str | os.PathLike[str] | None = None,
    interval_seconds: float = 1.0,
) -> "Watch":
    """Sends every evaluation of the pipelines to an OTLP receiver, until closed.

    Use it as a context manager: an exception that leaves the block ends the run as ``failed``, a
    keyboard interrupt as ``interrupted``. Telemetry never raises into training; with nobody
    listening, training goes on at full speed and the newest steps are kept in memory.

    Args:
        *pipelines: what to watch; names must differ.
        run: the run's id, the same on every rank. Default: ``PENALTYSCOPE_RUN``, torchrun's
            ``TORCHELASTIC_RUN_ID``, or a new one made of the script's name.
        optimizer: when given, ``step`` counts its steps, so that evaluations whose gradients are
            accumulated share one. Default: each evaluation is a step.
        probes: of these pipelines; their results are sent too.
        tags: free strings that describe the run.
        rank: default ``RANK``, or 0.
        world_size: default ``WORLD_SIZE``, or 1.
        attempt: which try at the same run this is; default ``TORCHELASTIC_RESTART_COUNT``, or 0.
        endpoint: base URL of the receiver, over ``OTEL_EXPORTER_OTLP_ENDPOINT``; default
            ``http://localhost:4318``.
        headers: sent with every request, over ``OTEL_EXPORTER_OTLP_HEADERS``.
        timeout_seconds: of one request, over ``OTEL_EXPORTER_OTLP_TIMEOUT``.
        exporter: an OpenTelemetry exporter that gets all records; short for
            ``sinks=[telemetry.Exporter(exporter)]``.
        sinks: where records go, each at its own pace; default ``[telemetry.OTLP()]``.
        spool: a directory in which requests wait on disk until the receiver has taken them, over
            ``PENALTYSCOPE_SPOOL``; default: they wait in memory. A later watch with the same
            directory, or ``penaltyscope replay``, sends what a process left there.
        interval_seconds: records are collected, and sent, at least this often.

    Raises:
        ValueError: an argument or an environment variable cannot be understood, or two pipelines
            share a name.
        ImportError: a package that a sink needs is not installed.
    """
    probes = tuple(probes)
    _check(pipelines, probes, interval_seconds)
    chosen = _chosen(sinks, exporter)
    environment = os.environ
    if disabled(environment):
        return Watch(run=run or "disabled", recorder=None, releases=[])
    attributes = resource_attributes(environment)
    identity = RunIdentity(
        run_id=_run_id(run, environment),
        rank=_number("rank", rank, environment, "RANK", 0),
        world_size=_number("world_size", world_size, environment, "WORLD_SIZE", 1),
        attempt=_number("attempt", attempt, environment, "TORCHELASTIC_RESTART_COUNT", 0),
        service_name=attributes.get(names.SERVICE_NAME, "penaltyscope"),
        instance_id=attributes.get(names.SERVICE_INSTANCE_ID, secrets.token_hex(8)),
        host_name=attributes.get(names.HOST_NAME, socket.gethostname()),
        tags={str(key): str(value) for key, value in (tags or {}).items()},
    )
    source = Source(
        identity=identity,
        incarnation=secrets.token_hex(8),
        pipelines={p.name: tuple(term.name for term in p.terms) for p in pipelines},
        environment=environment,
        endpoint=endpoint,
        headers=headers or {},
        timeout_seconds=timeout_seconds,
        interval_seconds=interval_seconds,
        spool=spool or environment.get("PENALTYSCOPE_SPOOL"),
    )
    channel = _open(chosen, source)
    recorder = Recorder(channel, incarnation=source.incarnation, interval_seconds=interval_seconds)
    releases = [p.register_observer(recorder.feed()) for p in pipelines]
    releases += [
        p.register_listener(partial(recorder.attribution, p.pipeline.name)) for p in probes
    ]
    if optimizer is not None:
        releases.append(_count_steps(pipelines, optimizer))
    recorder.start({})
    return Watch(run=identity.run_id, recorder=recorder, releases=releases)


def _chosen(sinks: Sequence[Sink] | None, exporter: "LogRecordExporter | None") -> Sequence[Sink]:
    if sinks is None:
        return [OTLP()] if exporter is None else [Exporter(exporter)]
    if exporter is not None:
        raise ValueError("exporter and sinks must not both be given: put Exporter among the sinks.")
    if not sinks or not all(isinstance(sink, Sink) for sink in sinks):
        raise ValueError(f"sinks must be a sequence of at least one sink, got {sinks!r}.")
    return sinks


def _open(sinks: Sequence[Sink], source: Source) -> Channel:
    # Our own sender never makes its caller wait, so alone it needs no thread between.
    if len(sinks) == 1 and isinstance(sinks[0], OTLP):
        return sinks[0].open(source)
    return FanOut([(type(sink).__name__, sink.open(source)) for sink in sinks])


class Watch:
    """A run under observation; made by ``watch``."""

    def __init__(
        self, *, run: str, recorder: Recorder | None, releases: list[Callable[[], None]]
    ) -> None:
        self.run = run
        """The run's id, as the service shows it."""
        self._recorder = recorder
        self._releases = releases
        atexit.register(self._at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(error)

    @property
    def dropped_steps(self) -> int:
        """Evaluations that were lost so far, for want of room or because they were refused."""
        return self._recorder.dropped_steps if self._recorder else 0

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Waits until every evaluation whose backward pass has run was delivered.

        Returns false when that did not happen within the time.
        """
        return self._recorder.flush(timeout_seconds) if self._recorder else True

    def close(self) -> None:
        """Ends the run as finished; takes at most two seconds. Closing twice does nothing."""
        self._close(None)

    def _close(self, error: BaseException | None) -> None:
        atexit.unregister(self._at_exit)
        for release in self._releases:
            release()
        self._releases = []
        if self._recorder is None:
            return
        status = _status(error)
        attributes: dict[str, AttributeValue] = {names.STATUS: status}
        if error is not None and status == "failed":
            attributes |= describe(error)
        failed = status == "failed"
        self._recorder.close(attributes, error=failed, timeout_seconds=_CLOSE_SECONDS)
        self._recorder = None

    def _at_exit(self) -> None:
        # The interpreter keeps the exception that ended the script here, if one did.
        self._close(getattr(sys, "last_value", None))


def _status(error: BaseException | None) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "finished"
    return "failed"


def _count_steps(
    pipelines: tuple[Pipeline, ...], optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    def count(*_: object) -> None:
        for pipeline in pipelines:
            pipeline.step += 1

    handle = optimizer.register_step_post_hook(count)
    for pipeline in pipelines:
        pipeline.counts_steps = False

    def release() -> None:
        handle.remove()
        for pipeline in pipelines:
            pipeline.counts_steps = True

    return release


def _check(
    pipelines: tuple[Pipeline, ...], probes: tuple[Probe, ...], interval_seconds: float
) -> None:
    for pipeline in pipelines:
        if not isinstance(pipeline, Pipeline):
            raise TypeError(f"pipelines must be Pipeline objects, got {type(pipeline).__name__}.")
    own = [pipeline.name for pipeline in pipelines]
    if not own or len(set(own)) < len(own):
        raise ValueError(f"pipelines must have different names, at least one, got {own}.")
    if strangers := [p.pipeline.name for p in probes if p.pipeline not in pipelines]:
        raise ValueError(f"probes must be of the pipelines {own}, got those of {strangers}.")
    if not interval_seconds > 0:
        raise ValueError(f"interval_seconds must be positive, got {interval_seconds}.")


def _run_id(run: str | None, environment: Mapping[str, str]) -> str:
    if run is not None and not run.strip():
        raise ValueError(f"run must be a non-empty string, got {run!r}.")
    elastic = environment.get("TORCHELASTIC_RUN_ID", "none")
    chosen = run or environment.get("PENALTYSCOPE_RUN") or ("" if elastic == "none" else elastic)
    script = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "python"
    return chosen or f"{script}-{secrets.token_hex(4)}"


def _number(
    argument: str, given: int | None, environment: Mapping[str, str], variable: str, default: int
) -> int:
    text = environment.get(variable)
    value = given if given is not None else int(text) if text and text.isdigit() else default
    if value < 0:
        raise ValueError(f"{argument} must not be negative, got {value}.")
    return value
