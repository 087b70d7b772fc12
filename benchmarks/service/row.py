"""One line of the table."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """A number, and what it should be."""

    name: str
    measured: float
    unit: str
    bar: float | None = None
    better: Literal["more", "less"] = "less"

    @property
    def met(self) -> bool | None:
        """Whether the number is as it should be; nothing where none was promised."""
        if self.bar is None:
            return None
        return self.measured >= self.bar if self.better == "more" else self.measured <= self.bar


def table(rows: list[Row]) -> str:
    """All rows as text."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'measured':>12}  {'bar':>12}"]
    for row in rows:
        sign = ">=" if row.better == "more" else "<="
        bar = "" if row.bar is None else f"{sign} {row.bar:,g}"
        verdict = {None: "", True: "met", False: "NOT MET"}[row.met]
        measured = f"{row.measured:,.4g}" if row.measured < 1e4 else f"{row.measured:,.0f}"
        lines.append(f"{row.name:{width}}  {measured:>12}  {bar:>12}  {row.unit:16} {verdict}")
    return "\n".join(lines)
