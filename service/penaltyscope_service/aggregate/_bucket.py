"""Which bucket of a histogram a number falls into, found without searching."""

from dataclasses import dataclass
from functools import cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_MANTISSA_BITS: Final = 52
_SIGNS_AND_EXPONENTS: Final = 2**12


@dataclass(frozen=True, slots=True)
class Buckets:
    """A table by the sign and exponent of a double, the highest 12 bits of it.

    Bounds are positive and each is at least twice the one before: no two have the same exponent,
    so that a look into the table and one comparison tell the bucket.
    """

    below: NDArray[np.int64]
    """How many bounds are below all numbers of an exponent."""
    bound: NDArray[np.float64]
    """The one bound among them; infinite where there is none."""

    @classmethod
    @cache
    def of(cls, doubles: bytes) -> Self:
        """The table of some bounds, which are doubles in ascending order.

        Raises:
            ValueError: if two of them have the same exponent.
        """
        bounds = np.frombuffer(doubles, np.float64)
        places = _places(bounds)
        if len(np.unique(places)) < len(places):
            raise ValueError(f"bounds must be a factor of two apart, got {bounds.tolist()}.")
        below = np.searchsorted(places, np.arange(_SIGNS_AND_EXPONENTS))
        below[_SIGNS_AND_EXPONENTS // 2 :] = 0  # negative
        bound = np.full(_SIGNS_AND_EXPONENTS, np.inf)
        bound[places] = bounds
        return cls(below, bound)

    def find(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many bounds are below each number; for a NaN whatever."""
        places = _places(numbers)
        return self.below[places] + (numbers > self.bound[places])


def _places(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    bits = np.ascontiguousarray(numbers).view(np.uint64) >> np.uint64(_MANTISSA_BITS)
    return bits.view(np.int64)
