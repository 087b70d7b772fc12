"""Exact gradients of all terms at one linear layer, without a backward pass below it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from penaltyscope.attribution._evaluation import EvaluationProbe
from penaltyscope.attribution._record import Attribution, from_gram
from penaltyscope.attribution._terms import gradients_of
from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Statistics

_ELEMENTS = 1 << 22
"""So many elements of the terms' weight gradients are held at once."""


class LastLayer(EvaluationProbe):
    """Every ``every`` evaluations: norms, conflicts and pulls of all terms at the last layer.

    Nothing changes in the loop. ``layer`` is the linear layer whose outputs, by whatever way, lead
    to the pipeline's inputs. The terms are evaluated once more and differentiated as far as that
    layer, whose weight's gradients follow from its inputs: the price is that of the terms and of
    one weight gradient per term, whatever lies below. A weight that is also used elsewhere counts
    with its use here.

    Raises:
        TypeError: ``pipeline`` is not a pipeline, or ``layer`` not linear.
        ValueError: ``every`` is not positive.
    """

    def __init__(self, pipeline: Pipeline, layer: nn.Linear, *, every: int = 20) -> None:
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"layer must be an nn.Linear, got {type(layer).__name__}.")
        super().__init__(pipeline, every=every)
        self._layer = layer
        self._uses: list[tuple[Tensor, GradientEdge]] = []
        hook = layer.register_forward_hook(self._after_layer, with_kwargs=True)
        self._releases.append(hook.remove)

    def close(self) -> None:
        """Stops measuring."""
        super().close()
        self._uses = []

    def _after_layer(
        self,
        _: object,
        arguments: tuple[Tensor, ...],
        keywords: Mapping[str, Tensor],
        output: Tensor,
    ) -> Tensor | None:
        if not (self._due() and self.pipeline.training and output.requires_grad):
            return None
        (x,) = (*arguments, *keywords.values())
        # Were the output a view that is overwritten later, its node would be left out of the graph.
        passed_on = output.clone()
        self._uses.append((x.detach(), get_gradient_edge(passed_on)))
        return passed_on

    def _forget(self) -> None:
        self._uses = []

    def _measure(
        self, values: Sequence[Tensor | None], wanted: Sequence[bool], statistics: Statistics
    ) -> Attribution:
        uses = self._uses
        if not uses:
            raise RuntimeError("layer must run before the pipeline with gradients, it did not.")
        edges = [edge for _, edge in uses]
        gradients = [gradients_of(value, edges) for value in values]
        outputs = _stacked(gradients, uses, self._layer)
        inputs = torch.cat([x.reshape(-1, self._layer.in_features) for x, _ in uses])
        gram = _gram(self._layer, outputs, inputs.to(outputs))
        return from_gram("last_layer", statistics, wanted, gram, has_base=values[-1] is not None)


def _stacked(
    gradients: Sequence[Sequence[Tensor | None]],
    uses: Sequence[tuple[Tensor, GradientEdge]],
    layer: nn.Linear,
) -> Tensor:
    """``[R, N, V]``: for each value its gradient at the layer's outputs, in float32 at least."""
    rows = []
    for row in gradients:
        parts = [
            x.new_zeros(*x.shape[:-1], layer.out_features) if g is None else g
            for g, (x, _) in zip(row, uses, strict=True)
        ]
        whole = torch.cat([part.reshape(-1, layer.out_features) for part in parts])
        rows.append(whole.to(torch.promote_types(whole.dtype, torch.float32)))
    return torch.stack(rows)


def _gram(layer: nn.Linear, outputs: Tensor, inputs: Tensor) -> Tensor:
    """``[R, R]``, inner products of the gradients of the layer's trained parameters."""
    count, _, features = len(outputs), *inputs.shape
    gram = outputs.new_zeros(count, count)
    if layer.weight.requires_grad:
        for part in outputs.split(max(_ELEMENTS // (count * features), 1), dim=-1):
            rows = (part.transpose(1, 2) @ inputs).flatten(1)
            gram += rows @ rows.T
    if layer.bias is not None and layer.bias.requires_grad:
        sums = outputs.sum(1)
        gram += sums @ sums.T
    return gram
