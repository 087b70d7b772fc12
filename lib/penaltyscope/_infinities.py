"""Which terms take -inf for an ordinary input, with the options of one call."""

from collections.abc import Mapping, Sequence

from penaltyscope import penalties
from penaltyscope.term import Term


def ordinary_infinities(
    terms: Sequence[Term], options: Mapping[str, Mapping[str, object]]
) -> tuple[bool, ...]:
    """For each term; ``options`` are, by name, those that override a term's own."""
    chosen = [(t.penalty, {**t.options, **options.get(t.name, {})}) for t in terms]
    return tuple([penalties.accepts_negative_infinity(*one) for one in chosen])
