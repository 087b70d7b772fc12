"""Value, gradient and norm of orthogonality by the smaller Gram matrix, where rows are many."""

from benchmarks.effort import Effort
from benchmarks.engines import Step
from benchmarks.measure import interleaved, ratio
from benchmarks.row import Row
from benchmarks.terms import ORTHOGONALITY, TEXTBOOK


def rows(effort: Effort) -> list[Row]:
    """Against the Gram matrix of all rows, which is how it is usually written."""
    found = []
    for shape in effort.tall:
        own, textbook = Step([ORTHOGONALITY], shape), Step([TEXTBOOK], shape)
        times = interleaved({"own": own.fused, "plain": textbook.plain}, effort.large_rounds)
        name = f"orthogonality with its norm / plain of all rows, {[*shape]}"
        found.append(Row(name, ratio(times, "own", "plain"), bar=0.10))
    return found
