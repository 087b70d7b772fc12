"""The weighted sum of terms, evaluated once, with every term's gradient norm as a by-product."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from penaltyscope import _over_parameters, penalties
from penaltyscope._audience import Audience
from penaltyscope._engine import Engine
from penaltyscope._over_parameters import is_over_parameters, pulls_on_inputs
from penaltyscope._settings import Settings, recorded
from penaltyscope._weights import weight_tensor
from penaltyscope.gradients import TermGradients, term_gradients
from penaltyscope.result import PipelineResult, Statistics, stamped
from penaltyscope.term import (
    SINGLE_INPUT,
    Term,
    Weight,
    check_name,
    check_step,
    check_weight,
)

_BUILT_IN: Mapping[str, Callable[..., Tensor]] = {
    "consistency": penalties.consistency,
    "elastic_net": penalties.elastic_net,
    "entropy": penalties.entropy,
    "js_divergence": penalties.js_divergence,
    "kl_divergence": penalties.kl_divergence,
    "l1": penalties.l1,
    "l2": penalties.l2,
    "orthogonality": penalties.orthogonality,
    "output_magnitude_penalty": penalties.output_magnitude_penalty,
}
"""The penalties of tensors alone, which a specification can name."""


class Observer(Protocol):
    """Hears of every evaluation of a pipeline, on the thread that runs it.

    It should be quick and should not read numbers from the device. One that raises is logged and
    removed: observing never breaks training. What it inherits from this class is not called.
    """

    def on_start(self, pipeline: "Pipeline", step: int) -> None:  # noqa: ARG002
        """The evaluation begins."""
        return

    def on_stop(self, pipeline: "Pipeline", result: PipelineResult) -> None:  # noqa: ARG002
        """It ended; gradient norms follow with the backward pass."""
        return

    def on_exception(
        self,
        pipeline: "Pipeline",  # noqa: ARG002
        step: int,  # noqa: ARG002
        error: BaseException,  # noqa: ARG002
    ) -> None:
        """It raised; the exception goes on to the caller."""
        return


@runtime_checkable
class _Stateful(Protocol):
    """A weight that remembers, such as an adaptive controller."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> object: ...


class Pipeline(nn.Module):
    """A weighted sum of penalties over one tensor or many.

    ``pipeline(x)`` serves terms over a single input, ``pipeline(student=…, teacher=…)`` terms with
    named inputs; ``base=`` adds the task loss. In training mode each call is one step unless
    ``step=`` says otherwise; in ``eval()`` mode nothing is recorded and the step stands still.
    Weights, enabled terms and the step are kept in ``state_dict``.

    Raises:
        ValueError: two terms share a name, or the pipeline's own name is not usable.
    """

    def __init__(
        self,
        terms: Iterable[Term] = (),
        *,
        name: str = "pipeline",
        conflict: bool = False,
        compile: bool = False,  # noqa: A002  # as torch's own option is called
    ) -> None:
        super().__init__()
        check_name("name", name, frozenset())
        self.name = name
        self.conflict = conflict
        """Whether results have a ``gradient_conflict``; it costs one matrix product a step."""
        self.compile_terms = compile
        """Whether terms are evaluated by one compiled graph; it takes a minute to make."""
        self.step = 0
        """The step of the next evaluation."""
        self.counts_steps = True
        """Whether a call in training mode raises ``step``; false where an optimizer does."""
        self._terms: dict[str, Term] = {}
        self._weights: dict[str, Weight] = {}
        self._enabled: dict[str, bool] = {}
        self._engine: Engine | None = None
        self._inputs: tuple[str, ...] | None = None
        self._settings: Settings | None = None
        self._audience = Audience(Observer)
        for term in terms:
            self.add(term)

    @classmethod
    def from_spec(
        cls, spec: Iterable[str | tuple[str, Mapping[str, object]]], *, name: str = "pipeline"
    ) -> Self:
        """Builds a pipeline from names of built-in penalties.

        Each entry is a penalty's name or (name, settings); settings are those of ``Term`` and a
        ``name`` of the term's own: ``["l1", ("l2", {"weight": 0.01, "options": {"clip": 1.0}})]``.

        Raises:
            ValueError: an entry names no built-in penalty, or has an unknown setting.
        """
        entries = [(entry, {}) if isinstance(entry, str) else entry for entry in spec]
        return cls([_term(penalty, settings) for penalty, settings in entries], name=name)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms in order."""
        return tuple(self._terms.values())

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all tensors that the terms take, in order of first use."""
        if self._inputs is None:
            self._inputs = tuple(dict.fromkeys(n for term in self.terms for n in term.inputs))
        return self._inputs

    def add(self, term: Term) -> None:
        """Appends a term; its name must be new."""
        if term.name in self._terms:
            raise ValueError(f"name of a term must be unique, got {term.name!r} twice.")
        self._terms[term.name] = term
        self._weights[term.name] = term.weight
        self._enabled[term.name] = term.enabled
        self._engine = self._inputs = self._settings = None

    def remove(self, name: str) -> None:
        """Removes a term."""
        self._known(name)
        for table in (self._terms, self._weights, self._enabled):
            del table[name]
        self._engine = self._inputs = self._settings = None

    def set_weight(self, name: str, weight: Weight) -> None:
        """Replaces a term's weight, or its schedule, from the next evaluation on."""
        self._known(name)
        check_weight(name, weight)
        self._weights[name] = weight
        self._settings = None

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Switches a term on or off from the next evaluation on."""
        self._known(name)
        self._enabled[name] = bool(enabled)
        self._settings = None

    def register_observer(self, observer: Observer) -> Callable[[], None]:
        """Tells ``observer`` of every evaluation; returns the call that ends this."""
        self._audience.add(observer)
        return partial(self._audience.remove, observer)

    def forward(
        self,
        x: Tensor | None = None,
        /,
        *,
        base: Tensor | None = None,
        step: int | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
        **inputs: Tensor,
    ) -> PipelineResult:
        """Evaluates every enabled term once.

        Args:
            x: the tensor of terms that name no inputs.
            base: 0-d, the task loss.
            step: the training step; later calls count on from it.
            options: by term name, options that override the term's own in this call.
            **inputs: the tensors that terms name, of any shape the penalties take; others are
                ignored.

        Raises:
            TypeError: an argument is not a tensor, ``step`` no integer, or a penalty returned none.
            ValueError: an input is missing, or a shape does not fit.
        """
        if step is not None:
            self.step = check_step(step)
        now = self.step
        recorded, audience = self.training, self._audience
        if recorded and audience.starts:
            audience.start(self, now)
        try:
            result = self._evaluate(x, base, options or {}, inputs)
        except Exception as error:
            if recorded:
                audience.exception(self, now, error)
            raise
        if recorded:
            stop = audience.stop
            try:
                stop(self, result)
            except Exception:  # noqa: BLE001  # whatever an observer does, training goes on
                audience.fail()
            # Not through the module, which would look for parameters in it.
            object.__setattr__(self, "step", now + self.counts_steps)
        return result

    def gradient_norms(
        self,
        x: Tensor | None = None,
        /,
        *,
        options: Mapping[str, Mapping[str, object]] | None = None,
        **inputs: Tensor,
    ) -> TermGradients:
        """Differentiates every term by every floating-point input, outside of training.

        A term over parameters is differentiated by those of them that require grad instead.

        Takes what ``forward`` takes. Nothing is recorded and no step is counted; one backward
        pass per term makes it several times the price of the norms that training gives away.
        """
        tensors = dict(zip(self.inputs, self._bind(x, inputs), strict=True))
        leaves = {
            id(t): t.detach().requires_grad_() for t in tensors.values() if t.is_floating_point()
        }
        given = {name: leaves.get(id(t), t) for name, t in tensors.items()}
        weights = self._settled().at(self.step)
        values: list[Tensor | None] = []
        with torch.enable_grad():
            over = _over_parameters.evaluate(
                self.terms, self._measured_over_parameters(), options or {}
            )
            for t, term in enumerate(self.terms):
                if t in over:
                    values.append(over[t].value.detach())
                elif self._enabled[term.name] and pulls_on_inputs(term):
                    chosen = {**term.options, **(options or {}).get(term.name, {})}
                    values.append(term.penalty(*(given[name] for name in term.inputs), **chosen))
                else:
                    values.append(None)
        like = next((v.detach() for v in values if v is not None), torch.zeros(()))
        named = {name: t for name, t in given.items() if t.is_floating_point()}
        scale = weight_tensor(weights, like).detach()
        own = {t: torch.as_tensor(one.norm).to(like) for t, one in over.items()}
        return term_gradients([term.name for term in self.terms], values, scale, named, own)

    def get_extra_state(self) -> dict[str, object]:
        """Step, enabled terms, weights that are numbers, and the state of schedules that have one.

        Part of ``state_dict``. Other schedules follow the step; a tensor is its owner's to keep.
        """
        weights = {n: w for n, w in self._weights.items() if isinstance(w, int | float)}
        schedules = {
            name: cast("_Stateful", weight).state_dict()
            for name, weight in self._weights.items()
            if isinstance(weight, _Stateful)
        }
        return {
            "step": self.step,
            "weights": weights,
            "schedules": schedules,
            "enabled": dict(self._enabled),
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what ``get_extra_state`` gave; terms that are not here now are ignored."""
        self.step = state["step"]
        for name in self._terms:
            if name in state["weights"]:
                self.set_weight(name, state["weights"][name])
            if name in state["enabled"]:
                self.set_enabled(name, state["enabled"][name])
        for name, weight in self._weights.items():
            if name in state["schedules"] and isinstance(weight, _Stateful):
                weight.load_state_dict(state["schedules"][name])

    def __getstate__(self) -> dict[str, object]:
        """What a copy takes along: not what was prepared, such as graphs; it makes its own."""
        return {**self.__dict__, "_engine": None, "_settings": None}

    def extra_repr(self) -> str:
        """The name and the terms, for ``repr``."""
        weights = ", ".join(f"{name}: {weight}" for name, weight in self._weights.items())
        return f"{self.name!r}, {{{weights}}}"

    def _evaluate(
        self,
        x: Tensor | None,
        base: Tensor | None,
        options: Mapping[str, Mapping[str, object]],
        inputs: Mapping[str, Tensor],
    ) -> PipelineResult:
        started = time.perf_counter()
        tensors = self._bind(x, inputs)
        if base is not None:
            _check_base(base)
        for name in options:
            self._known(name)
        settings = self._settings or self._settled()
        weights = settings.fixed or settings.at(self.step)
        made_for = self.conflict, self.compile_terms
        if self._engine is None or self._engine.made_for != made_for:
            self._engine = Engine(
                self.terms, self.inputs, conflict=self.conflict, compiled=self.compile_terms
            )
        done = self._engine(
            tensors, base, weights=weights, enabled=settings.enabled, options=options
        )
        statistics = Statistics(
            step=self.step,
            layout=done.layout,
            weights=recorded(weights) if settings.learned else weights,
            numbers=done.numbers,
            alarming=done.alarming,
            has_base=base is not None,
            dtype=done.total.dtype,
            tap=done.tap,
            gram=done.gram,
            stamp=stamped(self.step, time.time_ns(), time.perf_counter() - started),
        )
        loss = done.total if base is None else base + done.total
        return PipelineResult(total=done.total, base=base, loss=loss, statistics=statistics)

    def _measured_over_parameters(self) -> list[int]:
        return [
            t
            for t, term in enumerate(self.terms)
            if self._enabled[term.name] and term.differentiable and is_over_parameters(term)
        ]

    def _settled(self) -> Settings:
        if self._settings is None:
            self._settings = Settings(self._weights, self._enabled)
        return self._settings

    def _bind(self, x: Tensor | None, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        given = inputs if x is None else {SINGLE_INPUT: x, **inputs}
        names = self._inputs or self.inputs
        try:
            tensors = [given[name] for name in names]
        except KeyError:
            missing = [name for name in names if name not in given]
            raise ValueError(
                f"inputs must hold {_listed(names)}, but {_listed(missing)} is missing."
            ) from None
        # One more than is needed is no mistake: its term may have been removed.
        for i, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{names[i]} must be a tensor, got {type(tensor).__name__}.")
        return tensors

    def _known(self, name: str) -> None:
        if name not in self._terms:
            raise ValueError(f"name must be one of {_listed(self._terms)}, got {name!r}.")


def _term(penalty: str, settings: Mapping[str, object]) -> Term:
    if penalty not in _BUILT_IN:
        raise ValueError(f"penalty must be one of {_listed(_BUILT_IN)}, got {penalty!r}.")
    known = {"name", "weight", "inputs", "options", "enabled", "differentiable"}
    if unknown := settings.keys() - known:
        raise ValueError(f"settings of {penalty!r} must be among {_listed(known)}, got {unknown}.")
    arguments = {"name": penalty, **settings}
    return Term(penalty=_BUILT_IN[penalty], **arguments)  # type: ignore[arg-type]


def _check_base(base: Tensor | None) -> None:
    if base is not None and not isinstance(base, Tensor):
        raise TypeError(f"base must be a tensor, got {type(base).__name__}.")
    if base is not None and base.dim():
        raise ValueError(f"base must be 0-d, got shape {tuple(base.shape)}.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "nothing"
