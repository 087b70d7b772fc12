"""Why a request to read was refused, and how the OpenAPI document says so."""

from typing import Any, Final

from pydantic import BaseModel

Answers = dict[int | str, dict[str, Any]]
"""Descriptions of answers by their status."""

RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
}
CHALLENGES: Final = {
    "WWW-Authenticate": {
        "description": "How a token is shown.",
        "schema": {"type": "string"},
        "example": 'Bearer realm="penaltyscope"',
    }
}


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


def problem(
    description: str, example: str, *, headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An answer that is a problem, with what one may say."""
    content = {"application/json": {"example": {"detail": example}}}
    answer = {"model": Problem, "description": description, "content": content}
    return answer if headers is None else answer | {"headers": headers}


FAILURES: Final[Answers] = {
    500: problem(
        "A defect or a damaged history; the service's log has it.", "internal error; see the log."
    ),
    503: problem(
        "Too many connections are open; the same request may be sent again.",
        "too many connections are open; try again later.",
        headers=RETRY_AFTER,
    ),
}
"""What can happen to every request."""
