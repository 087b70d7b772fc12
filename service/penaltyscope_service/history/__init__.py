"""Every step ever received, in one SQLite file."""

from penaltyscope_service.history._block import BLOCK_ROWS
from penaltyscope_service.history._reader import BlockHead, Reader
from penaltyscope_service.history._rollup import ROLLUP_ROWS, rollup_column
from penaltyscope_service.history._rows import (
    Changes,
    Incident,
    Loaded,
    NewBlock,
    Place,
    SourceRow,
    StreamRow,
    TermsRow,
)
from penaltyscope_service.history._schema import SCHEMA_VERSION, HistoryError, Synchronous
from penaltyscope_service.history._store import History

__all__ = [
    "BLOCK_ROWS",
    "ROLLUP_ROWS",
    "SCHEMA_VERSION",
    "BlockHead",
    "Changes",
    "History",
    "HistoryError",
    "Incident",
    "Loaded",
    "NewBlock",
    "Place",
    "Reader",
    "SourceRow",
    "StreamRow",
    "Synchronous",
    "TermsRow",
    "rollup_column",
]
