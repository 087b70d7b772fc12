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
        self._known: Sequence[tuple[float, float]] | None = None
        """Ranges for which it is right, and with them for all that are within."""
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
        if self.covers(ranges):
            return True
        found = Situation.of([x.shape for x in tensors], ranges)
        if self._holds(found):
            self._learn(found)
            return True
        self.losses += all(low - low == high - high == 0 for low, high in found.ranges)
        return False

    def covers(self, ranges: Sequence[Extremes | None]) -> bool:
        """Whether that is known already of such ranges."""
        return not self._bets or self._within(ranges)

    def _holds(self, situation: Situation) -> bool:
        return all(question(situation, *about) == answer for question, about, answer in self._bets)

    def _within(self, ranges: Sequence[Extremes | None]) -> bool:
        # What is assumed is that nothing is too large, too small, or has another sign.
        if self._known is None:
            return False
        for pair, (least, most) in zip(ranges, self._known, strict=True):
            if pair is not None and not (least <= pair[0] and pair[1] <= most):
                return False
        return True

    def _learn(self, found: Situation) -> None:
        both = found
        if self._known is not None:
            pairs = zip(found.ranges, self._known, strict=True)
            both = found._replace(
                ranges=[(min(a, c), max(b, d)) for (a, b), (c, d) in pairs],
            )
        self._known = both.ranges if self._holds(both) else found.ranges
