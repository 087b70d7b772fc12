"""What a pipeline is set to: the weights of its terms at a step, and which of them are enabled."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from penaltyscope._scalar import read_one
from penaltyscope.term import Weight, check_number


class Settings:
    """One setting of all terms.

    Weights that are numbers come as the same object for as long as none of them changes: engines
    know it again, and with it what they have prepared.
    """

    __slots__ = ("_latest", "_schedules", "_weights", "enabled", "fixed", "learned")

    def __init__(self, weights: Mapping[str, Weight], enabled: Mapping[str, bool]) -> None:
        """Takes down what is set now, by term name."""
        self.enabled = tuple(enabled.values())
        self._schedules = [
            (i, name, weight)
            for i, (name, weight) in enumerate(weights.items())
            if not isinstance(weight, Tensor | int | float)
        ]
        self._weights = [_constant(weight) for weight in weights.values()]
        self._latest: tuple[float | Tensor, ...] = ()
        self.learned = any(isinstance(weight, Tensor) for weight in self._weights)
        """Whether there are tensors among the weights: their content may be another every time."""
        self.fixed = None if self.learned or self._schedules else tuple(self._weights)
        """The weights, if all of them are numbers at every step."""

    def at(self, step: int) -> tuple[float | Tensor, ...]:
        """All weights at a step.

        Raises:
            TypeError: a schedule returned no number.
            ValueError: it is not finite.
        """
        weights = [*self._weights]
        for i, name, schedule in self._schedules:
            weights[i] = check_number(name, schedule(step))
        now, latest = tuple(weights), self._latest
        if self.learned:
            return now
        if now == latest:
            return latest
        self._latest = now
        return now


def recorded(weights: Sequence[float | Tensor]) -> tuple[float | Tensor, ...]:
    """Weights as they are now, for a record."""
    return tuple(map(_read, weights))


def _constant(weight: Weight) -> float | Tensor:
    """The weight, and 0 for a schedule."""
    if isinstance(weight, Tensor):
        return weight
    return float(weight) if isinstance(weight, int | float) else 0.0


def _read(weight: float | Tensor) -> float | Tensor:
    # Cloned: the owner may change it in place.
    return read_one(weight.detach().clone()) if isinstance(weight, Tensor) else weight
