"""Small pipelines whose numbers can be worked out by hand."""

from torch import Tensor

import penaltyscope as ps


def squares(x: Tensor) -> Tensor:
    return x.square().sum()


def cubes(x: Tensor) -> Tensor:
    return x.pow(3).sum()


def two_terms() -> ps.Pipeline:
    return ps.Pipeline(
        [ps.Term("squares", squares, weight=0.5), ps.Term("cubes", cubes, weight=-2)]
    )


def poison(x: Tensor) -> Tensor:
    return (x * 0).log().sum()  # -inf, and its gradient is NaN
