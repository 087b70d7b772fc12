"""Every step ever received, in one SQLite file."""

from penaltyscope_service.history._archive import Archive
from penaltyscope_service.history._backup import back_up
from penaltyscope_service.history._block import BLOCK_ROWS, cut
from penaltyscope_service.history._damage import DamagedError, is_damage
from penaltyscope_service.history._graves import Graves
from penaltyscope_service.history._kept import keep, unite
from penaltyscope_service.history._lock import take_lock
from penaltyscope_service.history._pack import Packing
from penaltyscope_service.history._reader import BlockHead, Reader
from penaltyscope_service.history._rollup import ROLLUP_ROWS, rollup_column
from penaltyscope_service.history._rows import (
    Changes,
    Incident,
    KeptBlock,
    Loaded,
    NewBlock,
    Place,
    SourceRow,
    StreamRow,
    TermsRow,
)
from penaltyscope_service.history._salvage import put_aside, replace, salvage
from penaltyscope_service.history._schema import SCHEMA_VERSION, HistoryError, Synchronous
from penaltyscope_service.history._store import History

__all__ = [
    "BLOCK_ROWS",
    "ROLLUP_ROWS",
    "SCHEMA_VERSION",
    "Archive",
    "BlockHead",
    "Changes",
    "DamagedError",
    "Graves",
    "History",
    "HistoryError",
    "Incident",
    "KeptBlock",
    "Loaded",
    "NewBlock",
    "Packing",
    "Place",
    "Reader",
    "SourceRow",
    "StreamRow",
    "Synchronous",
    "TermsRow",
    "back_up",
    "cut",
    "is_damage",
    "keep",
    "put_aside",
    "replace",
    "rollup_column",
    "salvage",
    "take_lock",
    "unite",
]
