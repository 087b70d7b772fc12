"""Exact gradients of all terms at every parameter, by one backward pass per term."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from penaltyscope.attribution._evaluation import EvaluationProbe
from penaltyscope.attribution._record import Attribution, from_gram
from penaltyscope.attribution._terms import gradients_of
from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Statistics


def _first_name(name: str) -> str:
    return name.partition(".")[0]


class AllParameters(EvaluationProbe):
    """Every ``every`` evaluations: norms, conflicts and pulls of all terms, module by module.

    Nothing changes in the loop. Each term costs a backward pass through the whole model, and as
    much memory as the parameters; hooks on activations or parameters are called by these passes
    too. For a closer look, not for every day.

    ``group`` maps a parameter's name to that of the group it is counted in; by default the name
    of the module directly below ``model``.

    Raises:
        TypeError: ``pipeline`` is not a pipeline.
        ValueError: ``every`` is not positive, or no parameter of ``model`` is trained.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        model: nn.Module,
        *,
        every: int = 100,
        group: Callable[[str], str] = _first_name,
    ) -> None:
        super().__init__(pipeline, every=every)
        self._model = model
        self._group = group
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("model must have a parameter that is trained, none requires grad.")

    def _measure(
        self, values: Sequence[Tensor | None], wanted: Sequence[bool], statistics: Statistics
    ) -> Attribution:
        trained = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        gradients = [gradients_of(value, [*trained.values()]) for value in values]
        groups: dict[str, Tensor] = {}
        for i, (name, parameter) in enumerate(trained.items()):
            product = _gram(parameter, [row[i] for row in gradients])
            key = self._group(name)
            groups[key] = groups[key] + product if key in groups else product
        return from_gram(
            "all_parameters",
            statistics,
            wanted,
            torch.stack([*groups.values()]).sum(0),
            has_base=values[-1] is not None,
            norms_by_module={key: g.diagonal().sqrt()[:-1] for key, g in groups.items()},
        )


def _gram(parameter: Tensor, gradients: list[Tensor | None]) -> Tensor:
    """``[R, R]``, inner products of one parameter's gradients, in float32 at least."""
    zero = torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))
    dense = (zero if g is None else g.to_dense() if g.is_sparse else g for g in gradients)
    rows = torch.stack([g.to(zero).flatten() for g in dense])
    return rows @ rows.T
