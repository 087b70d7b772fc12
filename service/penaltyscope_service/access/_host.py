"""The defence against names of others that lead to us (DNS rebinding)."""

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from penaltyscope_service.access._denial import DeniedError
from penaltyscope_service.access._headers import Headers

_OURS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The usual ones, which to parse would cost more than the rest of the gate."""


def check_host(headers: Headers, names: Collection[str]) -> None:
    """Refuses requests under a name that may be anybody's.

    A page at ``evil.example`` may let its own name lead to 127.0.0.1; a browser then takes this
    service for a part of that page, but still says in ``Host`` whom it looked for. Addresses are
    nobody's name, and what is no browser may leave the header out.

    Args:
        headers: of the request.
        names: in lower case, beside ``localhost``.

    Raises:
        DeniedError: 421.
    """
    host = headers.get(b"host")
    if not host:
        return
    name = _without_port(host)
    if name in _OURS or name in names or _is_address(name):
        return
    raise DeniedError(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"host must be an address, localhost or one of --host-names, got {name!r:.100}.",
    )


@lru_cache
def _without_port(encoded: bytes) -> str:
    host = encoded.decode("latin-1").lower()
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
