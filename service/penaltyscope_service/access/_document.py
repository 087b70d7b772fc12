"""Tokens in the OpenAPI document, and the answers to those who have none."""

from typing import Any, Final

from penaltyscope_service.access._guard import OPEN_PATHS

DENIALS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "No token, or one that is not known, where one is needed."},
    403: {"description": "The token does not have the scope."},
    421: {"description": "Host is a name that may be somebody else's."},
}
"""For every operation that is behind the guard."""
_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
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
