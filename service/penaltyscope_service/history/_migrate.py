"""Older files brought up to date, one version after the other, in one transaction."""

import sqlite3
from typing import Final

from penaltyscope_service.history._schema import BLOCK_INDEX, GRAVE_TABLE, SCHEMA_VERSION

_STEPS: Final = {
    1: f"ALTER TABLE block ADD COLUMN checksum INTEGER; {GRAVE_TABLE}",
    2: f"DROP INDEX block_of_stream; {BLOCK_INDEX}",
    3: "",
    4: "ALTER TABLE rollup ADD COLUMN checksum INTEGER;",
}
"""What makes the next version of each.

Version 3 packs blocks and rollups in another way. Those that are there stay as they are: their
first byte tells how to read them. Version 4 writes how far a source has come when its blocks are
packed, and not before. A program that knows neither is kept off by the version.
"""


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Brings the tables from a version to the newest; all or nothing."""
    if version == SCHEMA_VERSION:
        return
    steps = "".join(_STEPS[older] for older in range(version, SCHEMA_VERSION))
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
