"""Why a whole request is refused."""

from http import HTTPStatus


class RefusedError(Exception):
    """Ends a request with an HTTP error; whoever finds the problem raises it."""

    def __init__(
        self, status: HTTPStatus, message: str, *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        """For 429 and 503: when the client may send the same bytes again."""
