"""One line of the table, the table, and the same as JSON."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement, and what it is held against."""

    name: str
    measured: float
    unit: str = "x"
    """``x`` is a ratio, ``us`` and ``ms`` are times, ``exponent`` is that of a growth."""
    bar: float | None = None
    """None where the measurement is only shown."""
    at_least: bool = False
    """Whether more is better: a speedup."""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar. NaN meets nothing."""
        if self.bar is None:
            return None
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "name": self.name,
            "measured": self.measured if math.isfinite(self.measured) else None,
            "unit": self.unit,
            "bar": self.bar,
            "at_least": self.at_least,
            "met": self.met,
        }


def table(rows: Sequence[Row]) -> str:
    """Rows under each other, aligned, with what was missed said in the last column."""
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'':{width}}  {'measured':>9} {'':8}  {'bar':>7}  met"]
    for row in rows:
        bar = "" if row.bar is None else f"{'≥' if row.at_least else '≤'} {row.bar:g}"
        met = {True: "yes", False: "NO", None: ""}[row.met]
        number = (
            f"{row.measured:>9.3f}" if row.unit in ("x", "exponent") else f"{row.measured:>9.1f}"
        )
        lines.append(f"{row.name:{width}}  {number} {row.unit:8}  {bar:>7}  {met}".rstrip())
    return "\n".join(lines)


def write(path: Path, rows: Sequence[Row], **about: str) -> None:
    """Writes the rows, with what they were measured on: JSON there, and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {**machine(), **about}
    document = {**facts, "rows": [row.to_dict() for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n")
    heading = "".join(f"{name}: {fact}\n" for name, fact in facts.items())
    path.with_suffix(".txt").write_text(f"{heading}\n{table(rows)}\n")


def machine() -> Mapping[str, str]:
    """What a number depends on besides the code: processor, versions, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    description = Path("/proc/cpuinfo")
    lines = description.read_text().splitlines() if description.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
