"""Which metrics and labels an expression names: enough of PromQL for our own expressions."""

import re
from typing import Final

_SELECTOR: Final = re.compile(r"\b(penaltyscope_\w+)(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Every one of our metrics with the labels that it is matched by."""
    return [
        (metric, set(_MATCHER.findall(matchers)))
        for metric, matchers in _SELECTOR.findall(expression)
    ]


def groupings(expression: str) -> set[str]:
    """Every label that something is grouped or joined by."""
    return {
        label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")
    }
