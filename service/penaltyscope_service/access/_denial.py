"""Why somebody is not let in."""

from http import HTTPStatus


class DeniedError(Exception):
    """Ends a request; its message never repeats what the client sent as a token."""

    def __init__(
        self, status: HTTPStatus, message: str, *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        """401: nobody we know; 403: not allowed; 421: not our name; 429: too much."""
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        """For 429: when there is room again."""
