"""One evaluation of all terms: closed forms where there are some, the split engine for the rest.

What has a closed form becomes one more user of each tensor, with a gradient that is there already.
All numbers of an evaluation end up side by side in one row, so that telemetry has one thing to
keep and to read.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from penaltyscope import _over_parameters, _split
from penaltyscope._compiled import Compiler
from penaltyscope._evaluation import Evaluation
from penaltyscope._fan import GradientTap
from penaltyscope._fused import Call, Fuser, Fusion, may_have_form
from penaltyscope._infinities import ordinary_infinities
from penaltyscope._over_parameters import inputs_of, is_over_parameters, pulls_on_inputs
from penaltyscope._scalar import (
    Extremes,
    Scalar,
    extremes,
    is_traced,
    on_host,
    packed,
    read_one,
    read_vector,
)
from penaltyscope._steady import Steady, same
from penaltyscope.result import Layout
from penaltyscope.term import Term


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who evaluates what."""

    rest: _split.Plan
    """Of the terms without a closed form."""
    alone: tuple[int, ...]
    """The tensors that only closed forms have a gradient by."""
    layout: Layout


@dataclass(frozen=True, slots=True)
class _Frame:
    """What depends on which tensors are the same, require grad, and which terms count."""

    distinct: tuple[int, ...]
    """Positions of the inputs that are not the same tensor as an earlier one."""
    names: Mapping[str, int]
    """Of every input, its number among the distinct tensors."""
    parts: tuple[_split.Part, ...]
    """Of the terms that are enabled."""
    calls: tuple[Call, ...]
    """Of those that may have a closed form."""
    callers: tuple[int, ...]
    """The terms that these are of."""
    all_calls: tuple[Call, ...]
    """Of all terms but those that are not differentiable: enabling one makes no other graph."""
    all_callers: tuple[int, ...]
    """The terms that these are of."""
    over: tuple[int, ...]
    """The terms over parameters whose gradient is to be measured."""
    with_grad: tuple[bool, ...]
    """For each distinct tensor."""
    plans: dict[Hashable, _Plan] = field(default_factory=dict)
    """By the terms in closed form, their slopes, and the terms over parameters with a norm."""


class Engine:
    """Evaluates the terms of a pipeline, and keeps what it prepares for that."""

    def __init__(
        self, terms: Sequence[Term], inputs: Sequence[str], *, conflict: bool, compiled: bool
    ) -> None:
        self._terms = terms
        self._inputs = inputs
        self.made_for = conflict, compiled
        self._conflict = conflict
        self._ordinary = ordinary_infinities(terms, {})
        self._fuser = Fuser()
        self._compiler = Compiler() if compiled else None
        self._frames: dict[Hashable, _Frame] = {}
        self._steady = Steady()
        self._latest: tuple[object, object, dict[Hashable, _Frame]] = (None, None, {})
        """The last step's weights and terms that were enabled, and frames as long as both stay the
        same objects."""

    def __call__(
        self,
        tensors: Sequence[Tensor],
        base: Tensor | None,
        *,
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
        options: Mapping[str, Mapping[str, object]],
    ) -> Evaluation:
        """Evaluates every enabled term once.

        Args:
            tensors: the pipeline's inputs, in the order of their names.
            base: 0-d, the task loss, for the row only.
            weights: of all terms at this step, numbers or 0-d tensors.
            enabled: for each term.
            options: for some terms' names, options that override the term's own in this call.

        Where weights and enabled are the same objects as before, they are taken to be the same.
        """
        steady = self._compiler is not None and not options
        again = self._steady(tensors, base, weights, enabled) if steady else None
        return again or self._evaluate(tensors, base, weights, enabled, options)

    def _evaluate(
        self,
        tensors: Sequence[Tensor],
        base: Tensor | None,
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
        options: Mapping[str, Mapping[str, object]],
    ) -> Evaluation:
        frame = self._frame(tensors, weights, enabled)
        own = [tensors[i] for i in frame.distinct]
        fusion, taken, ranges = self._together(frame, own, weights, enabled, options)
        over = _over_parameters.evaluate(self._terms, frame.over, options)
        # A weight that is a tensor may be found to be 0: then its term is taken without a slope.
        slopes = () if fusion is None else tuple(fusion.solution.norms)
        usual = ordinary_infinities(self._terms, options) if options else self._ordinary
        plan = frame.plans.get(key := (taken, slopes, tuple(over), usual))
        if plan is None:
            plan = frame.plans[key] = self._plan(frame, taken, fusion, tuple(over), enabled, usual)
        tap = GradientTap(terms=len(self._terms) * self._conflict) if plan.rest.fanned else None
        pool, probe = own, None
        if tap is not None:
            aliases, probe = _split.fan_out(plan.rest, tap, own, weights)
            pool = [*aliases, *own]
        totals = []
        if fusion is not None:
            totals.append(fusion.total([pool[i] for i in plan.rest.together]))
        values = None
        if plan.rest.parts:
            rest = _split.evaluate(
                plan.rest, self._terms, pool, probe, over, weights=weights, options=options
            )
            totals.append(rest.total)
            values = rest.values
        total = _sum(totals, like=tensors[0] if tensors else base)
        if not total.requires_grad and True in frame.with_grad and not is_traced():
            # As all along, for those who differentiate it while a warm-up stands at 0.
            total = total + torch.zeros_like(total, requires_grad=True)
        if self._compiler is not None and fusion is not None and not options:
            self._remember(self._compiler, plan, fusion, taken, tensors, weights, enabled)
        known = _known_norms(plan, fusion, _over_parameters.norms(over, weights))
        sums = [read_one(total)] if base is None else [read_one(total), read_one(base)]
        return Evaluation(
            layout=plan.layout,
            numbers=self._numbers(plan, values, taken, fusion, ranges, known, sums, total.device),
            alarming=not all(isinstance(x, Tensor) or math.isfinite(x) for x in sums),
            total=total,
            tap=tap,
            gram=self._gram(fusion, taken),
        )

    def _remember(
        self,
        compiler: Compiler,
        plan: _Plan,
        fusion: Fusion,
        taken: tuple[int, ...],
        tensors: Sequence[Tensor],
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> None:
        """Lets the compiler's graph alone do it from now on, if it is all there is to do."""
        inner = fusion.solution.gram
        alone = not plan.rest.parts and (inner is None or len(inner) == len(self._terms))
        if torch.compiler.is_compiling() or not alone:
            return
        repeat = compiler.repeat([tensors[i] for i in sorted({*same(tensors)})])
        if repeat is not None:
            self._steady.remember(repeat, fusion, taken, plan.layout, tensors, weights, enabled)

    def _numbers(
        self,
        plan: _Plan,
        rest: Tensor | None,
        taken: tuple[int, ...],
        fusion: Fusion | None,
        ranges: Sequence[Extremes | None],
        known: Sequence[Scalar],
        sums: Sequence[Scalar],
        device: torch.device,
    ) -> bytes | Tensor:
        """All numbers side by side; ``rest`` are the values of the terms without a closed form."""
        count = len(self._terms)
        if rest is not None and len(plan.rest.terms) == count:
            unread = [*_flat(ranges), *known, *sums]
            if on_host(rest):
                return packed([*rest.tolist()[:count], *unread], device)
            apart = [x for x in unread if isinstance(x, Tensor)]
            if len(apart) == len(unread):
                return torch.cat((rest.detach()[:count], torch.stack(apart)))
        values: list[Scalar] = [math.nan] * count
        if fusion is not None:
            for term, value in zip(taken, fusion.solution.values, strict=True):
                values[term] = value
        if rest is not None:
            for term, value in zip(plan.rest.terms, read_vector(rest.detach()), strict=False):
                values[term] = value
        numbers = [*values, *_flat(ranges), *known, *sums]
        return packed(numbers, device)

    def _frame(
        self, tensors: Sequence[Tensor], weights: Sequence[float | Tensor], enabled: Sequence[bool]
    ) -> _Frame:
        first = tuple(same(tensors))
        with_grad = tuple([x.requires_grad for x in tensors])
        recording = torch.is_grad_enabled()
        kind = first, with_grad, recording
        was_weights, was_enabled, frames = self._latest
        if weights is not was_weights or enabled is not was_enabled:
            frames = {}
            self._latest = weights, enabled, frames
        frame = frames.get(kind)
        if frame is None:
            frame = frames[kind] = self._frame_of(*kind, weights, enabled)
        return frame

    def _frame_of(
        self,
        first: tuple[int, ...],
        with_grad: tuple[bool, ...],
        recording: bool,
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> _Frame:
        active = tuple(
            [
                on and (isinstance(weight, Tensor) or weight != 0)
                for on, weight in zip(enabled, weights, strict=True)
            ]
        )
        key = first, with_grad, active, tuple(enabled), recording
        frame = self._frames.get(key)
        if frame is None:
            distinct = tuple(sorted(set(first)))
            names = {name: distinct.index(i) for name, i in zip(self._inputs, first, strict=True)}
            parts = [
                _split.Part(
                    term=t,
                    tensors=inputs_of(term, names),
                    active=active[t],
                    in_graph=active[t] and recording,
                    tapped=active[t] and recording and term.differentiable,
                )
                for t, term in enumerate(self._terms)
                if enabled[t]
            ]
            measured = [p for p in parts if pulls_on_inputs(self._terms[p.term])]
            callers = [p for p in measured if may_have_form(self._terms[p.term].penalty)]
            if self._conflict and len(callers) < len(measured):
                callers = []  # inner products are of all terms or of none
            graphed = tuple(t for t, term in enumerate(self._terms) if pulls_on_inputs(term))
            over = [p for p in parts if p.tapped and is_over_parameters(self._terms[p.term])]
            frame = self._frames[key] = _Frame(
                distinct=distinct,
                names=names,
                parts=tuple(parts),
                calls=tuple(self._call(part.term, names, {}) for part in callers),
                callers=tuple(part.term for part in callers),
                all_calls=tuple(self._call(t, names, {}) for t in graphed),
                all_callers=graphed,
                over=tuple(part.term for part in over),
                with_grad=tuple(recording and with_grad[i] for i in distinct),
            )
        return frame

    def _call(
        self, t: int, names: Mapping[str, int], options: Mapping[str, Mapping[str, object]]
    ) -> Call:
        term = self._terms[t]
        own = tuple(names[name] for name in term.inputs)
        return Call(term.penalty, own, {**term.options, **options.get(term.name, {})})

    def _together(
        self,
        frame: _Frame,
        tensors: Sequence[Tensor],
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
        options: Mapping[str, Mapping[str, object]],
    ) -> tuple[Fusion | None, tuple[int, ...], Sequence[Extremes | None]]:
        """Terms with a gradient that is there at once, their numbers, and the tensors' ranges."""
        if self._compiler and frame.parts and frame.all_calls and not torch.compiler.is_compiling():
            callers, calls = frame.all_callers, frame.all_calls
            if options:
                calls = tuple(self._call(t, frame.names, options) for t in callers)
            found = self._compiler(
                calls,
                tensors,
                [weights[t] for t in callers],
                enabled=[enabled[t] for t in callers],
                gram=self._conflict,
            )
            if found is not None:
                taken = tuple(callers[i] for i in found.fusion.taken)
                ranges = [
                    extremes(tensor) if pair is None else pair
                    for pair, tensor in zip(found.ranges, tensors, strict=True)
                ]
                return found.fusion, taken, ranges
        ranges = [extremes(x) for x in tensors]
        if not frame.calls:
            return None, (), ranges
        fusion = self._fuse(frame, tensors, ranges, weights, options)
        taken = () if fusion is None else tuple([frame.callers[i] for i in fusion.taken])
        return fusion, taken, ranges

    def _fuse(
        self,
        frame: _Frame,
        tensors: Sequence[Tensor],
        ranges: Sequence[Extremes | None],
        weights: Sequence[float | Tensor],
        options: Mapping[str, Mapping[str, object]],
    ) -> Fusion | None:
        calls = frame.calls
        if options:
            calls = tuple(self._call(t, frame.names, options) for t in frame.callers)
        own = [weights[term] for term in frame.callers]
        return self._fuser(calls, tensors, own, extremes=ranges, gram=self._conflict)

    def _plan(
        self,
        frame: _Frame,
        taken: tuple[int, ...],
        fusion: Fusion | None,
        over: tuple[int, ...],
        enabled: Sequence[bool],
        usual: tuple[bool, ...],
    ) -> _Plan:
        slopes: list[tuple[int, int]] = []
        if fusion is not None:
            slopes = [(taken[call], x) for call, x in fusion.solution.norms]
        rest = _split.make_plan(
            [part for part in frame.parts if part.term not in taken],
            frame.with_grad,
            frozenset(x for _, x in slopes),
        )
        graded = sorted({*rest.fanned, *(x for _, x in slopes)})
        alone = tuple(x for x in graded if x not in rest.fanned)
        number = {x: s for s, x in enumerate(graded)}
        known = [*((t, number[x]) for t, x in slopes), *((t, len(graded)) for t in over)]
        measured = {term for term, _ in (*rest.aliases, *known)}
        active = {part.term for part in frame.parts if part.active}
        layout = Layout(
            terms=tuple(term.name for term in self._terms),
            enabled=tuple(enabled),
            active=tuple(t in active for t in range(len(self._terms))),
            measured=tuple(t in measured for t in range(len(self._terms))),
            inputs=tuple(tuple(sorted({*inputs_of(t, frame.names)})) for t in self._terms),
            allows_negative_infinity=usual,
            tensors={name: number[x] for name, x in frame.names.items() if x in number},
            distinct=len(frame.distinct),
            tapped=tuple((term, number[x]) for term, x in rest.aliases),
            tapped_sums=tuple(number[x] for x in rest.fanned),
            known=tuple(known),
            known_sums=tuple(number[x] for x in alone),
        )
        return _Plan(rest, alone, layout)

    def _gram(self, fusion: Fusion | None, taken: tuple[int, ...]) -> Tensor | None:
        if fusion is None or fusion.solution.gram is None:
            return None
        if len(taken) == len(self._terms):
            return fusion.solution.gram
        # A term that is disabled has no gradient: cosines with it are NaN.
        gram = fusion.solution.gram.new_zeros(len(self._terms), len(self._terms))
        gram[torch.tensor(taken)[:, None], torch.tensor(taken)] = fusion.solution.gram
        return gram


def _flat(ranges: Sequence[Extremes | None]) -> list[Scalar]:
    return [number for pair in ranges for number in pair or (0.0, 0.0)]


def _known_norms(plan: _Plan, fusion: Fusion | None, own: Sequence[Scalar]) -> Sequence[Scalar]:
    if fusion is None:
        return own
    solution = fusion.solution
    return [*solution.norms.values(), *own, *(solution.total_norms[x] for x in plan.alone)]


def _sum(totals: Sequence[Tensor], like: Tensor | None) -> Tensor:
    if not totals:
        return torch.zeros(()) if like is None else like.new_zeros(())
    return totals[0] if len(totals) == 1 else totals[0] + totals[1]
