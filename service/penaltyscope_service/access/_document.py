"""Tokens in the OpenAPI document, and the answers to those who have none."""

from typing import Any, Final

from penaltyscope_service.access._guard import OPEN_PATHS
from penaltyscope_service.problem import CHALLENGES, Answers, problem

DENIALS: Final[Answers] = {
    401: problem(
        "No token, or one that is not known, where one is needed.",
        "a token is needed, as in the header Authorization: Bearer TOKEN.",
        headers=CHALLENGES,
    ),
    403: problem("The token does not allow it.", "the token 'job' does not have the scope 'read'."),
    421: problem(
        "Host is a name that may be somebody else's.",
        "host must be an address, localhost or one of --host-names, got 'evil.example'.",
    ),
}
"""For every operation that is behind the guard."""
_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "From `penaltyscope token create`.",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "The password is the token."},
}


def describe_tokens(document: dict[str, Any]) -> None:
    """Adds to the document which operation asks for what."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        if path not in OPEN_PATHS:
            for method, operation in operations.items():
                names = ("bearer", "basic") if method == "get" else ("bearer",)
                operation["security"] = [{name: []} for name in names]
