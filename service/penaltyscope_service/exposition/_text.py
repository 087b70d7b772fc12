"""Prometheus' text format 0.0.4, written a family at a time.

Reference: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

Numbers = NDArray[np.float64] | NDArray[np.int64]

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Family(NamedTuple):
    """A metric."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str

    @property
    def head(self) -> bytes:
        """The two comment lines, without the last line feed."""
        return f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.type}".encode()


class Samples(NamedTuple):
    """Samples of a gauge or counter: one for each pair of an owner and a variant."""

    owners: Sequence[bytes]
    """Labels, as ``format_labels`` makes them."""
    numbers: Numbers
    """``[owners]``, or ``[owners, variants]``; where it is NaN there is no sample."""
    variants: Sequence[bytes] = (b"",)
    """Labels to append."""


class Histograms(NamedTuple):
    """One histogram for each owner."""

    owners: Sequence[bytes]
    counts: NDArray[np.int64]
    """``[owners, B + 1]``, of each bucket alone."""
    sums: NDArray[np.float64]
    """``[owners]``."""
    bounds: Sequence[float]
    """``B`` of them; the last bucket has none."""


def format_labels(labels: Mapping[str, str | int]) -> bytes:
    """Labels as they stand between the braces."""
    pairs = (f'{name}="{str(value).translate(_ESCAPES)}"' for name, value in labels.items())
    return ",".join(pairs).encode()


def format_samples(family: Family, groups: Iterable[Samples]) -> tuple[bytes, int]:
    """The text of a gauge's or counter's family, and how many samples are in it."""
    texts, count = [family.head], 0
    for group in groups:
        owners, numbers = group.owners, group.numbers.reshape(-1, len(group.variants))
        if len(group.variants) == 1 and np.isnan(numbers).any():
            present = ~np.isnan(numbers[:, 0])
            owners, numbers = list(compress(owners, present)), numbers[present]
        columns = [
            (f"\n{family.name}{{".encode(), variant + b"} ", _format_numbers(numbers[:, i]))
            for i, variant in enumerate(group.variants)
        ]
        texts.append(_lines(owners, columns))
        count += numbers.size
    return (b"".join(texts) + b"\n", count) if count else (b"", 0)


def format_histograms(family: Family, histograms: Histograms) -> tuple[bytes, int]:
    """The text of a histogram's family, and how many samples are in it."""
    owners, counts, sums, bounds = histograms
    if not owners:
        return b"", 0
    head, name = f"\n{family.name}_bucket{{".encode(), family.name
    cumulative = np.cumsum(counts, axis=1)
    edges = [f',le="{bound!r}"}} '.encode() for bound in bounds] + [b',le="+Inf"} ']
    columns = [(head, e, _format_numbers(cumulative[:, i])) for i, e in enumerate(edges)]
    columns += [
        (f"\n{name}_sum{{".encode(), b"} ", _format_numbers(sums)),
        (f"\n{name}_count{{".encode(), b"} ", columns[-1][2]),
    ]
    return family.head + _lines(owners, columns) + b"\n", len(owners) * len(columns)


def _lines(
    owners: Sequence[bytes], columns: Sequence[tuple[bytes, bytes, Sequence[bytes]]]
) -> bytes:
    """For every owner one line per column: text before its labels, text after, the number."""
    stride = 4 * len(columns)
    parts: list[Any] = [None] * (stride * len(owners))
    for i, (before, after, numbers) in enumerate(columns):
        parts[4 * i :: stride] = [before] * len(owners)
        parts[4 * i + 1 :: stride] = owners
        parts[4 * i + 2 :: stride] = [after] * len(owners)
        parts[4 * i + 3 :: stride] = numbers
    return b"".join(parts)


def _format_numbers(numbers: Numbers) -> list[bytes]:
    if not len(numbers):
        return []
    plain = np.ascontiguousarray(numbers)
    texts = orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    if numbers.dtype == np.float64:
        for i in np.flatnonzero(~np.isfinite(numbers)):  # JSON has no word for them
            texts[i] = b"NaN" if np.isnan(numbers[i]) else b"+Inf" if numbers[i] > 0 else b"-Inf"
    return texts
