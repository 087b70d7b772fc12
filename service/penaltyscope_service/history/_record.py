"""Records of runs, processes and sources as rows of their tables, and back."""

from operator import attrgetter
from typing import Any, Final

import orjson

from penaltyscope_service.dedupe import Gap, Ledger
from penaltyscope_service.history._rows import SourceRow
from penaltyscope_service.states import Ending, ProcessRecord, RunRecord
from penaltyscope_service.summary import Failure

Row = tuple[Any, ...]

RUN_COLUMNS: Final = (
    "id",
    "run",
    "started_at",
    "received_at",
    "reopened_at",
    "ended_at",
    "attempt",
    "world_size",
    "details",
)
PROCESS_COLUMNS: Final = (
    "run",
    "rank",
    "received_at",
    "start_ns",
    "health_ns",
    "dropped_before",
    "dropped",
    "overhead_seconds",
    "duplicates",
)
_RUN_PLAIN: Final = attrgetter(*RUN_COLUMNS[:-1])
_PROCESS: Final = attrgetter(*PROCESS_COLUMNS)
SOURCE_COLUMNS: Final = ("id", "stream", "incarnation", "high", "lost", "gaps")


def run_row(run: RunRecord) -> Row:
    """In the order of ``RUN_COLUMNS``."""
    details = {
        "tags": dict(run.tags),
        "present": sorted(run.present),
        "endings": [(rank, e.status, e.time_ns) for rank, e in run.endings.items()],
        "failure": run.failure and (run.failure.type, run.failure.message),
    }
    return (*_RUN_PLAIN(run), orjson.dumps(details).decode())


def read_run(row: Row, ranks: tuple[int, ...]) -> RunRecord:
    """The run; its ranks are those of its processes."""
    fields = dict(zip(RUN_COLUMNS, row, strict=True))
    details = orjson.loads(fields.pop("details"))
    return RunRecord(
        **fields,
        ranks=ranks,
        tags=details["tags"],
        present=frozenset(details["present"]),
        endings={
            rank: Ending(status=status, time_ns=time_ns)
            for rank, status, time_ns in details["endings"]
        },
        failure=_read_failure(details["failure"]),
    )


def _read_failure(pair: tuple[str, str] | None) -> Failure | None:
    return pair and Failure(type=pair[0], message=pair[1])


def process_row(process: ProcessRecord) -> Row:
    """In the order of ``PROCESS_COLUMNS``."""
    row: Row = _PROCESS(process)
    return row


def read_process(row: Row) -> ProcessRecord:
    """The process."""
    return ProcessRecord(**dict(zip(PROCESS_COLUMNS, row, strict=True)))


def source_row(source: SourceRow) -> Row:
    """In the order of ``SOURCE_COLUMNS``."""
    ledger = source.ledger
    gaps = orjson.dumps(ledger.gaps, default=tuple).decode() if ledger.gaps else None
    return source.id, source.stream, source.incarnation, ledger.high, ledger.lost, gaps


def read_source(row: Row) -> SourceRow:
    """The source."""
    number, stream, incarnation, high, lost, text = row
    gaps = tuple(Gap(*gap) for gap in orjson.loads(text)) if text else ()
    return SourceRow(number, stream, incarnation, Ledger(high=high, gaps=gaps, lost=lost))
