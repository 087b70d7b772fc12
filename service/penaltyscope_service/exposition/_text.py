"""Prometheus' text format 0.0.4, written a family at a time.

Reference: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.exposition._lines import Columns, Strings, write_lines

Numbers = NDArray[np.float64] | NDArray[np.int64]

_NO_COUNTS: Final = np.empty(0, np.int64)
_NO_SUMS: Final = np.empty(0)
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

    owners: Strings
    """Labels, as ``format_labels`` makes them."""
    numbers: Numbers
    """``[owners]``, or ``[owners, variants]``; an owner that has only NaN has no samples."""
    variants: Sequence[bytes] = (b"",)
    """Labels to append."""


class Histograms(NamedTuple):
    """One histogram for each owner."""

    owners: Strings
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


def write_samples(page: BytesIO, family: Family, groups: Iterable[Samples]) -> int:
    """Writes a gauge's or counter's family, if it has any samples; returns how many it has."""
    begin = page.tell()
    page.write(family.head)
    count = sum(_write_group(page, family.name, group) for group in groups)
    if count:
        page.write(b"\n")
    else:
        page.seek(begin)
        page.truncate()
    return count


def _write_group(page: BytesIO, name: str, group: Samples) -> int:
    variants = len(group.variants)
    numbers = group.numbers.reshape(-1, variants)
    rows = np.flatnonzero(~np.isnan(numbers).all(axis=1))
    present = numbers[rows]
    fractional = present.dtype == np.float64
    columns = Columns(
        before=Strings.of([_opening(name)] * variants),
        after=Strings.of([variant + b"} " for variant in group.variants]),
        fractional=np.full(variants, fractional),
    )
    counts = _NO_COUNTS if fractional else present.astype(np.int64, copy=False)
    sums = present.astype(np.float64, copy=False) if fractional else _NO_SUMS
    write_lines(page, group.owners, columns, rows, counts, sums)
    return present.size


def write_histograms(page: BytesIO, family: Family, histograms: Histograms) -> int:
    """Writes a histogram's family, if it has any samples; returns how many it has."""
    owners, counts, sums, bounds = histograms
    if not len(owners):
        return 0
    name, buckets = family.name, len(bounds) + 1
    before = [_opening(f"{name}_bucket")] * buckets
    edges = [f',le="{bound!r}"}} '.encode() for bound in bounds] + [b',le="+Inf"} ']
    columns = Columns(
        before=Strings.of([*before, _opening(f"{name}_sum"), _opening(f"{name}_count")]),
        after=Strings.of([*edges, b"} ", b"} "]),
        fractional=np.arange(buckets + 2) == buckets,
    )
    cumulative = np.empty((len(owners), buckets + 1), np.int64)
    np.cumsum(counts, axis=1, out=cumulative[:, :-1])
    cumulative[:, -1] = cumulative[:, -2]
    page.write(family.head)
    write_lines(page, owners, columns, np.arange(len(owners)), cumulative, sums)
    page.write(b"\n")
    return len(owners) * (buckets + 2)


def _opening(name: str) -> bytes:
    return f"\n{name}{{".encode()
