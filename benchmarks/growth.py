"""How the costs grow with the number of terms and of inputs: ratios, and exponents of the time."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import Times, exponent, interleaved, ratio
from benchmarks.recorder import CLOCK, OURS, in_situ
from benchmarks.row import Row
from benchmarks.terms import by_user, many, plain_total
from benchmarks.training import Training, service
from benchmarks.wire import BATCH_STEPS, block, encoder

ENGINES = ("plain", "split", "fused")


def rows(effort: Effort) -> list[Row]:
    """By terms over one input, then by inputs of as many terms as there are at most."""
    by_terms = {n: _engines(many(n), effort, effort.small) for n in effort.term_counts}
    most = max(effort.input_counts)
    inputs = {n: [f"input {i}" for i in range(n)] for n in effort.input_counts}
    by_inputs = {
        n: _engines(many(most, names), effort, effort.small) for n, names in inputs.items()
    }
    return [
        *_engine_rows("terms", by_terms),
        *_engine_rows(f"inputs of {most} terms", by_inputs),
        *_recorder_rows(effort),
        *_encoder_rows(effort),
    ]


def _engines(terms: Sequence[ps.Term], effort: Effort, shape: tuple[int, ...]) -> Times:
    names = {name for term in terms for name in term.inputs}
    torch.manual_seed(0)
    tensors = {n: torch.randn(shape).log_softmax(-1).requires_grad_() for n in sorted(names)}
    split, fused = ps.Pipeline(by_user(terms)), ps.Pipeline(terms)

    def total_of(pipeline: ps.Pipeline) -> Callable[[], Tensor]:
        return lambda: pipeline(**tensors).total

    totals: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: plain_total(terms, tensors),
        "split": total_of(split),
        "fused": total_of(fused),
    }

    def step(total: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            for x in tensors.values():
                x.grad = None
            total().backward()

        return run

    steps = {name: step(totals[name]) for name in ENGINES}
    return interleaved(steps, max(effort.rounds // 6, 2))


def _engine_rows(of: str, times: Mapping[int, Times]) -> list[Row]:
    ratios = [
        Row(f"{engine} / plain, {n} {of}", ratio(times[n], engine, "plain"))
        for engine in ("split", "fused")
        for n in times
    ]
    exponents = [
        _exponent(f"{engine}, by {of}", {n: statistics.median(times[n][engine]) for n in times})
        for engine in ENGINES
    ]
    return [*ratios, *exponents]


def _recorder_rows(effort: Effort) -> list[Row]:
    fewer = replace(effort, blocks=max(effort.blocks // 4, 1))
    with service() as endpoint:
        times = {n: in_situ(Training(), many(n), fewer, endpoint) for n in effort.term_counts}
    medians = {n: statistics.median(t[OURS]) for n, t in times.items()}
    clocks = {n: statistics.median(t[CLOCK]) for n, t in times.items()}
    return [
        *(Row(f"recorder call, {n} terms", (medians[n] - clocks[n]) * 1e6, "us") for n in medians),
        _exponent("recorder call, by terms", medians),
    ]


def _encoder_rows(effort: Effort) -> list[Row]:
    encoders = {str(n): encoder(block(BATCH_STEPS, n)) for n in effort.term_counts}
    times = interleaved(encoders, effort.rounds)
    medians = {n: statistics.median(times[str(n)]) for n in effort.term_counts}
    return [
        *(
            Row(f"encoding per step, {n} terms", seconds / BATCH_STEPS * 1e6, "us")
            for n, seconds in medians.items()
        ),
        _exponent("encoder, by terms", medians),
    ]


def _exponent(name: str, times: Mapping[int, float]) -> Row:
    return Row(f"growth of {name}", exponent([*times], [*times.values()]), "exponent")
