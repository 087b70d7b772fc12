"""Refusals in one sentence: which argument, what was expected, what came."""

import reprlib
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from penaltyscope_service.api._models import Problem

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    422: {"model": Problem, "description": "An argument is not what it must be."},
}
"""Replaces the framework's own description of a refused argument."""


async def refuse_arguments(_request: Request, error: Exception) -> JSONResponse:
    """Answers 422 with the first problem that the framework found."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    expected = first["msg"][:1].lower() + first["msg"][1:]
    detail = f"{name}: {expected}, got {reprlib.repr(first.get('input'))}."
    return JSONResponse({"detail": detail}, status_code=422)
