"""The formats by name."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, get_args

from penaltyscope_service.export._csv import export_csv
from penaltyscope_service.export._jsonl import export_jsonl
from penaltyscope_service.export._parquet import export_parquet
from penaltyscope_service.history import Archive

Format = Literal["csv", "jsonl", "parquet"]

FORMATS: Final[tuple[Format, ...]] = get_args(Format)
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
_EXPORTS: Final[Mapping[Format, Callable[[Archive], Iterator[bytes]]]] = {
    "csv": export_csv,
    "jsonl": export_jsonl,
    "parquet": export_parquet,
}


def export(run: Archive, kind: Format) -> Iterator[bytes]:
    """The file in pieces; memory does not grow with the run.

    Raises:
        MissingPyarrowError: at once, if ``kind`` is ``parquet`` and pyarrow is not installed.
        DamagedError: on the way, if a block is not what was written.
    """
    return _EXPORTS[kind](run)
