"""What a graph takes for granted of its tensors, and whether it was right to do so."""

from collections.abc import Sequence

import torch
from torch import Tensor

from penaltyscope._fused import Plan, Situation
from penaltyscope._scalar import Extremes


class Assumption:
    """How small and large elements are: where none is near a bound, none has to be kept from it.

    A graph is run before that is known of its tensors; it finds out itself.
    """

    def __init__(self, plan: Plan, situation: Situation) -> None:
        """Takes down which answers depend on it.

        Args:
            plan: of the graph.
            situation: that the plan was made for.
        """
        self._plan = plan
        self._situation = situation
        unknown = Situation.of(situation.shapes, [None] * len(situation.shapes))
        self._bets = [
            (question, about, answer)
            for (question, about), answer in plan.answers.items()
            if question(unknown, *about) != answer
        ]
        self.losses = 0
        """How often it was wrong of finite tensors."""

    def allows(self, shapes: Sequence[torch.Size]) -> bool:
        """Whether the plan is one for such shapes."""
        return self._plan.holds(self._situation._replace(shapes=shapes))

    def was_right(self, tensors: Sequence[Tensor], ranges: Sequence[Extremes | None]) -> bool:
        """Whether the plan was one for these tensors, too.

        Args:
            tensors: all of them.
            ranges: of each; None where that is not known.
        """
        if not self._bets:
            return True
        found = Situation.of([x.shape for x in tensors], ranges)
        if all(question(found, *about) == answer for question, about, answer in self._bets):
            return True
        self.losses += all(low - low == high - high == 0 for low, high in found.ranges)
        return False
