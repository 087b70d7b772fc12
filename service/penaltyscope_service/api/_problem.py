"""Refusals in one sentence: which argument, what was expected, what came."""

import logging
import reprlib
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from penaltyscope_service.problem import Answers, problem

_logger: Final = logging.getLogger(__name__)

UNFIT: Final[Answers] = {
    422: problem(
        "An argument is not what it must be.",
        "points: input should be greater than or equal to 4, got '3'.",
    ),
}
"""Replaces the framework's own description of a refused argument."""
UNKNOWN: Final[Answers] = {404: problem("The run is not known.", "run 'kd-7' is not known")}


async def refuse_arguments(_request: Request, error: Exception) -> JSONResponse:
    """Answers 422 with the first problem that the framework found."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    expected = first["msg"][:1].lower() + first["msg"][1:]
    detail = f"{name}: {expected}, got {reprlib.repr(first.get('input'))}."
    return JSONResponse({"detail": detail}, status_code=422)


async def admit_damage(_request: Request, error: Exception) -> JSONResponse:
    """Answers 500: what was asked for is not what was written, and nothing else is shown for it."""
    _logger.error("the history is damaged: %s", error)
    detail = "the history is damaged here; see the log, and restart the service to save the rest."
    return JSONResponse({"detail": detail}, status_code=500)


async def admit_defect(_request: Request, _error: Exception) -> JSONResponse:
    """Answers 500; what went wrong inside is for the log, not for whoever asks."""
    return JSONResponse({"detail": "internal error; see the log."}, status_code=500)
