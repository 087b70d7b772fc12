"""A training run made of chosen numbers, sent as the request bodies that the library sends."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import numpy as np

from penaltyscope_events import (
    Event,
    RunIdentity,
    StepBlock,
    complete_flags,
    encode_events,
    encode_request,
    encode_steps,
    names,
)


@dataclass
class Sender:
    """One rank of a run with one pipeline."""

    client: httpx.Client
    """Whose base address is the service's."""
    run: str
    pipeline: str = "distillation"
    terms: tuple[str, ...] = ("sparsity", "distill", "kl(q|p)")
    rank: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    sent: int = 0
    """Steps, and so the next step and sequence number."""

    def start(self) -> None:
        self._event(names.RUN_START)

    def end(self, status: str = "finished") -> None:
        self._event(names.RUN_END, **{names.STATUS: status})

    def heartbeat(self, *, dropped_steps: int = 0, overhead: float = 0.001) -> None:
        self._event(
            names.RUN_HEARTBEAT, **{names.DROPPED_STEPS: dropped_steps, names.OVERHEAD: overhead}
        )

    def steps(
        self,
        count: int,
        *,
        value: Mapping[str, float] | None = None,
        gradient_norm: Mapping[str, float] | None = None,
    ) -> None:
        """Sends ``count`` steps, ordinary but for the numbers given by term."""
        self._request(encode_steps(self._block(count, value or {}, gradient_norm or {})))
        self.sent += count

    def _block(
        self, count: int, value: Mapping[str, float], gradient_norm: Mapping[str, float]
    ) -> StepBlock:
        shape = (count, len(self.terms))
        values = np.broadcast_to([value.get(term, 0.5) for term in self.terms], shape)
        norms = np.broadcast_to([gradient_norm.get(term, 0.2) for term in self.terms], shape)
        weights = np.full(shape, 0.1)
        step = np.arange(self.sent, self.sent + count)
        total = (weights * values).sum(axis=1)
        return StepBlock(
            pipeline=self.pipeline,
            incarnation="first",
            terms=self.terms,
            step=step,
            seq=step,
            stop_ns=time.time_ns() + np.arange(count) * 1_000_000,
            duration=np.full(count, 0.003),
            base=np.full(count, 2.0),
            has_base=np.full(count, fill_value=True),
            total=total,
            total_gradient_norm=np.sqrt(((weights * norms) ** 2).sum(axis=1)),
            value=values,
            weight=weights,
            contribution=weights * values,
            gradient_norm=norms,
            flags=complete_flags(np.zeros(shape, np.int32), values, norms),
        )

    def _event(self, name: str, **attributes: str | int | float) -> None:
        self._request(
            encode_events([Event(name=name, time_ns=time.time_ns(), attributes=attributes)])
        )

    def _request(self, scope: bytes) -> None:
        identity = RunIdentity(run_id=self.run, rank=self.rank, tags=self.tags)
        body = encode_request(identity, [scope])
        headers = {"content-type": "application/x-protobuf"}
        self.client.post("/v1/logs", content=body, headers=headers).raise_for_status()
