"""What a check has found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    check: str
    """What was looked at, in a word or two."""
    message: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty when nothing is wrong."""

    def __str__(self) -> str:
        """The line; control characters of what a server said are escaped."""
        text = f"{self.message}; {self.remedy}" if self.remedy else self.message
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        return f"{self.level:<4}  {self.check}: {shown}"
