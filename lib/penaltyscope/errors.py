"""The exceptions that penaltyscope raises on its own account.

A caller's mistake is a plain ``ValueError`` or ``TypeError``; these are findings of our own::

    Exception
    └── PenaltyscopeError
        └── NonFiniteError (also a ValueError)
"""

from typing import Literal, TypeAlias

NonFiniteKind: TypeAlias = Literal["nan", "inf"]


class PenaltyscopeError(Exception):
    """Base of every exception that is penaltyscope's own."""


class NonFiniteError(PenaltyscopeError, ValueError):
    """A tensor that had to be finite holds a NaN or an infinity."""

    def __init__(self, kind: NonFiniteKind, name: str = "x") -> None:
        """Record what was found (NaN wins over infinity) and in which argument."""
        # Both go through ``args``, so that the error survives pickling between processes.
        super().__init__(kind, name)
        self.kind: NonFiniteKind = kind
        self.name = name

    def __str__(self) -> str:
        """Name the argument and what it holds."""
        found = "NaN" if self.kind == "nan" else "an infinity"
        return f"{self.name} must be finite, got {found}."
