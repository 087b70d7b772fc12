"""Why somebody is not let in."""

from penaltyscope_service.refusal import RefusedError


class DeniedError(RefusedError):
    """Ends a request; its message never repeats what the client sent as a token.

    401: nobody we know; 403: not allowed; 421: not our name; 429: too much.
    """
