"""Apache Parquet, one row group after the other; needs pyarrow, which is an extra."""

from collections.abc import Iterator
from importlib.util import find_spec
from io import RawIOBase
from typing import TYPE_CHECKING, Final

import numpy as np

from penaltyscope_events import StepBlock
from penaltyscope_service.export._columns import NAMES, absent, term_columns
from penaltyscope_service.history import Archive, StreamRow

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP_ROWS: Final = 2**16
_INTEGERS: Final = {"rank": "int32", "seq": "int64", "step": "int64", "time_ns": "int64"}
_TEXTS: Final = ("run", "pipeline", "incarnation", "term")


class MissingPyarrowError(RuntimeError):
    """Parquet was asked for, and pyarrow is not installed."""

    def __init__(self) -> None:
        super().__init__("parquet needs pyarrow: pip install 'penaltyscope[parquet]'.")


def export_parquet(run: Archive) -> Iterator[bytes]:
    """One row for each term of each evaluation; what is absent is null.

    Raises:
        MissingPyarrowError: at once, if pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise MissingPyarrowError
    return _export(run)


def _export(run: Archive) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    drain, schema = _Drain(), _schema()
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(pa.PythonFile(drain, mode="w"), schema) as writer:
        for stream in run.streams:
            for block in run.steps(stream):
                waiting.append(_batch(run.record.run, stream, block, schema))
                if sum(batch.num_rows for batch in waiting) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(waiting, schema))
                    waiting = []
                    yield drain.take()
        writer.write_table(pa.Table.from_batches(waiting, schema))
    yield drain.take()


class _Drain(RawIOBase):
    """A file whose bytes are taken away as they are written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: object, /) -> int:
        """Keeps the bytes."""
        part = bytes(memoryview(data))  # type: ignore[arg-type]
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _schema() -> "pa.Schema":
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        if name in _TEXTS:
            return pa.dictionary(pa.int32(), pa.string())
        return pa.type_for_alias(_INTEGERS.get(name, "int32" if name == "flags" else "float64"))

    return pa.schema([(name, kind(name)) for name in NAMES])


def _batch(run: str, stream: StreamRow, block: StepBlock, schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    columns, missing = term_columns(block), absent(block)
    rows = len(columns["term"])

    def text(codes: np.ndarray, names: tuple[str, ...]) -> pa.Array:
        plain = [name.encode("utf-8", "replace").decode() for name in names]
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(plain))

    same = np.zeros(rows, np.int32)
    arrays = {
        "run": text(same, (run,)),
        "rank": pa.array(np.full(rows, stream.rank, np.int32)),
        "pipeline": text(same, (stream.pipeline,)),
        "incarnation": text(same, (block.incarnation,)),
        **{
            name: pa.array(column, mask=missing.get(name))
            for name, column in columns.items()
            if name != "term"
        },
        "term": text(columns["term"], block.terms),
    }
    return pa.RecordBatch.from_arrays([arrays[name] for name in NAMES], schema=schema)
