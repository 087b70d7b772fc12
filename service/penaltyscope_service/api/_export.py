"""A run as a file, sent while it is made."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from penaltyscope_service.export import MEDIA_TYPES, Format, MissingPyarrowError, export
from penaltyscope_service.observatory import Observatory
from penaltyscope_service.problem import Answers, problem

_LONGEST_SECONDS: Final = 600.0
"""While a run is read, the history's log cannot be cut: a slow client must come to an end."""

_TEXT: Final = {"type": "string"}
_BINARY: Final = {"type": "string", "contentMediaType": "application/octet-stream"}
_SCHEMAS: Final[dict[Format, dict[str, Any]]] = {"csv": _TEXT, "jsonl": _TEXT, "parquet": _BINARY}

EXPORT_ANSWERS: Final[Answers] = {
    200: {
        "content": {
            media.partition(";")[0]: {"schema": _SCHEMAS[kind]}
            for kind, media in MEDIA_TYPES.items()
        },
        "headers": {
            "Content-Disposition": {
                "description": "The name of the file.",
                "schema": {"type": "string"},
                "example": "attachment; filename*=UTF-8''kd-7.csv",
            }
        },
        "description": "The file. A connection that ends early means that it is not whole.",
    },
    501: problem(
        "Parquet, and pyarrow is not installed.",
        "parquet needs pyarrow: pip install 'penaltyscope[parquet]'.",
    ),
}


class ExportQuery(BaseModel):
    """The query string of an export; a misspelt parameter is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    format: Format = "csv"
    """``jsonl`` can be imported again; ``csv`` and ``parquet`` have a row for each term."""


def stream_export(observatory: Observatory, run: str, kind: Format) -> StreamingResponse:
    """The answer; memory does not grow with the run.

    Raises:
        HTTPException: 404 if the run is not known, 501 if Parquet cannot be made here.
    """
    with ExitStack() as undo:
        archive = undo.enter_context(observatory.archive(run))
        if archive is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"run {run!r} is not known")
        try:
            pieces = export(archive, kind)
        except MissingPyarrowError as error:
            raise HTTPException(HTTPStatus.NOT_IMPLEMENTED, str(error)) from error
        kept = undo.pop_all()
    name = quote(f"{run}.{kind}", safe="", errors="replace")
    return StreamingResponse(
        _until(pieces, kept, time.monotonic() + _LONGEST_SECONDS),
        media_type=MEDIA_TYPES[kind],
        headers={"content-disposition": f"attachment; filename*=UTF-8''{name}"},
    )


def _until(pieces: Iterator[bytes], kept: ExitStack, deadline: float) -> Iterator[bytes]:
    with kept:
        for piece in pieces:
            if time.monotonic() > deadline:
                raise TimeoutError(f"an export took more than {_LONGEST_SECONDS:g} s.")
            yield piece
