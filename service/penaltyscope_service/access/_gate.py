"""Decides who may do what, for every transport."""

import hmac
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus

from penaltyscope_service.access._denial import DeniedError
from penaltyscope_service.access._headers import Headers
from penaltyscope_service.access._host import check_host
from penaltyscope_service.access._quota import Quota
from penaltyscope_service.access._tenant import owner
from penaltyscope_service.access._token import Scope, Token, digest


class Gate:
    """Knows all tokens; where there are none, everyone who reaches the port may do everything."""

    def __init__(
        self,
        tokens: Sequence[Token] = (),
        *,
        host_names: Collection[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Knows who may come.

        Args:
            tokens: all of them.
            host_names: by which names the service is reached, in lower case; ``None``: by any.
            clock: seconds, never going back.
        """
        self._host_names = host_names
        self._clock = clock
        self._quotas: dict[str, Quota] = {}
        self.know(tokens)

    def know(self, tokens: Sequence[Token]) -> None:
        """Takes these tokens for all that there are; what one has sent still counts."""
        self._quotas = {
            token.name: self._quota(token.name, token.records_per_second)
            for token in tokens
            if token.records_per_second is not None
        }
        self._tenants = frozenset(token.tenant for token in tokens if token.tenant is not None)
        self._tokens = tuple(tokens)

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return bool(self._tokens)

    def tenant_of(self, run: str) -> str:
        """Whose run it is; empty: no tenant's."""
        tenant = owner(run)
        return tenant if tenant in self._tenants else ""

    def throttled(self) -> list[tuple[Token, int]]:
        """How many requests of each token that has a quota were refused for it."""
        return [
            (token, self._quotas[token.name].refused)
            for token in self._tokens
            if token.name in self._quotas
        ]

    def admit(self, headers: Headers, scope: Scope) -> Token | None:
        """Who asks; ``None`` where nobody needs a token.

        Raises:
            DeniedError: 401 without a token that is known, 403 if it does not have the scope,
                421 under a name that is not ours, 429 if it has sent too much.
        """
        if self._host_names is not None:
            check_host(headers, self._host_names)
        if not self._tokens:
            return None
        token = self._find(_read_secret(headers, scope))
        if scope not in token.scopes:
            raise DeniedError(
                HTTPStatus.FORBIDDEN, f"the token {token.name!r} does not have the scope {scope!r}."
            )
        if scope == "ingest" and token.name in self._quotas:
            self._quotas[token.name].require()
        return token

    def charge(self, token: Token | None, records: int) -> None:
        """Takes what a token has sent off its quota, where it has one."""
        if token is not None and token.name in self._quotas:
            self._quotas[token.name].charge(records)

    def _quota(self, name: str, per_second: float) -> Quota:
        known = self._quotas.get(name)
        if known is not None and known.per_second == per_second:
            return known
        return Quota(name, per_second, self._clock)

    def _find(self, secret: bytes) -> Token:
        """Compares with every token, so that time tells nothing of which came close."""
        presented, found = digest(secret), None
        for token in self._tokens:
            if hmac.compare_digest(presented, token.sha256):
                found = token
        if found is None:
            raise DeniedError(HTTPStatus.UNAUTHORIZED, "the token is not known.")
        return found


def _read_secret(headers: Headers, scope: Scope) -> bytes:
    value = headers.get(b"authorization", b"")
    scheme, _, credentials = value.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return credentials.strip()
        # Browsers ask people for it and add it to requests of other sites' pages, too: reading
        # is harmless then, since they are not shown the answer; sending is not.
        case b"basic" if scope == "read":
            return _password(credentials)
    raise DeniedError(
        HTTPStatus.UNAUTHORIZED, "a token is needed, as in the header Authorization: Bearer TOKEN."
    )


def _password(credentials: bytes) -> bytes:
    """The part after the first colon; whatever the user name, it is the token (RFC 7617)."""
    try:
        return b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except Base64Error:
        return b""
