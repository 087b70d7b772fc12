"""The lines of a chart, and where their numbers are in a block."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events.names import BASE_TERM
from penaltyscope_service.measured import evaluated, norm_measured, total_norm_measured
from penaltyscope_service.summary import QUANTITIES, Quantity

TOTAL_TERM: Final = "total"
"""The name under which the penalty is drawn; a term of that name comes first."""

Columns = dict[str, NDArray[Any]]

_OF_PIPELINE: Final[dict[tuple[str, Quantity], str]] = {
    (BASE_TERM, "value"): "base",
    (TOTAL_TERM, "value"): "total",
    (TOTAL_TERM, "gradient_norm"): "total_gradient_norm",
}


class LineKey(NamedTuple):
    """What a line shows."""

    term: str
    quantity: Quantity
    column: str
    """Where the numbers are in a block."""
    by_term: bool
    """Whether the column has numbers for each term."""

    def place(self, terms: Sequence[str]) -> int | None:
        """The term's place in a block's terms; nothing if it is not there."""
        if not self.by_term:
            return 0
        return terms.index(self.term) if self.term in terms else None

    @property
    def needs(self) -> set[str]:
        """The columns that ``extract`` looks at."""
        extra = {"base": "has_base", "total": self.column}
        return {self.column, extra.get(self.column, "flags")}

    def extract(
        self, columns: Columns, place: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """``[N]`` numbers, and where they mean something."""
        numbers = columns[self.column]
        match self.column:
            case "base":
                return numbers, columns["has_base"]
            case "total":
                return numbers, np.ones(len(numbers), np.bool_)
            case "total_gradient_norm":
                return numbers, total_norm_measured(numbers, columns["flags"])
            case "gradient_norm":
                return numbers[:, place], norm_measured(columns["flags"][:, place])
        return numbers[:, place], evaluated(columns["flags"][:, place])


def line_keys(
    known: Sequence[str], terms: Sequence[str], quantities: Sequence[Quantity]
) -> Iterator[LineKey]:
    """The lines of some terms, or all, and some quantities, or all.

    Args:
        known: the pipeline's terms.
        terms: those to be drawn; ``base`` and ``total`` are the task loss and the penalty.
        quantities: what is to be drawn of them.
    """
    for term in dict.fromkeys(terms or (*known, BASE_TERM, TOTAL_TERM)):
        for quantity in dict.fromkeys(quantities or QUANTITIES):
            if term in known:
                yield LineKey(term, quantity, quantity, by_term=True)
            elif (term, quantity) in _OF_PIPELINE:
                yield LineKey(term, quantity, _OF_PIPELINE[term, quantity], by_term=False)
