"""What can go wrong while a service is read.

::

    PenaltyscopeError
    └── ClientError
        ├── UnreachableError (also a ConnectionError): no answer, or not all of it
        ├── AnswerError: an answer that no service of ours gives
        └── ProblemError: the service refuses, and says why
            ├── DeniedError: 401 and 403
            ├── UnknownRunError: 404
            └── ArgumentError (also a ValueError): 422
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from penaltyscope.client._answers import Problem
from penaltyscope.errors import PenaltyscopeError


class ClientError(PenaltyscopeError):
    """Base of whatever a client raises."""


class UnreachableError(ClientError, ConnectionError):
    """The service was not reached, did not prove who it is, or did not answer to the end."""


class AnswerError(ClientError):
    """The answer is not one of a Penaltyscope service that this client knows."""


class ProblemError(ClientError):
    """The service refused the request."""

    def __init__(
        self, status: int, problem: Problem, retry_after_seconds: int | None = None
    ) -> None:
        # All of them, so that the error survives pickling between processes.
        super().__init__(status, problem, retry_after_seconds)
        self.status = status
        """Of HTTP."""
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        """When the same request may be sent again, where the service says so."""

    def __str__(self) -> str:
        return f"{self.problem.detail} (HTTP {self.status})"


class DeniedError(ProblemError):
    """The token is missing, not known, or does not allow this."""


class UnknownRunError(ProblemError):
    """No such run, or none that the token may see."""


class ArgumentError(ProblemError, ValueError):
    """An argument is not what the service expects."""


_BY_STATUS: Final[Mapping[int, type[ProblemError]]] = {
    HTTPStatus.UNAUTHORIZED: DeniedError,
    HTTPStatus.FORBIDDEN: DeniedError,
    HTTPStatus.NOT_FOUND: UnknownRunError,
    HTTPStatus.UNPROCESSABLE_ENTITY: ArgumentError,
}


def refusal(status: int, problem: Problem, retry_after: str | None) -> ProblemError:
    """The exception for an answer that is a problem."""
    kind = _BY_STATUS.get(status, ProblemError)
    seconds = int(retry_after) if retry_after and retry_after.isdigit() else None
    return kind(status, problem, seconds)
