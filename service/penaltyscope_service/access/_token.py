"""A token as the service knows it: by its hash."""

import hashlib
import secrets
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Literal["ingest", "read"]

_PREFIX: Final = "pst_"
"""Lets scanners of repositories and logs recognise a token that has leaked."""
_BYTES: Final = 32


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Token(BaseModel):
    """What one token allows, and nothing that the token could be made of."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: _Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hexadecimal."""
    scopes: Annotated[list[Scope], Field(min_length=1)]
    tenant: _Name | None = None
    """Whose runs it sends and reads; ``None``: reads everyone's."""
    records_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Most records that it may send on average; ``None``: as many as the service can take."""

    @model_validator(mode="after")
    def _limits_what_it_allows(self) -> "Token":
        if self.records_per_second is not None and "ingest" not in self.scopes:
            raise ValueError("records_per_second limits the scope ingest, which it does not have")
        return self


def make_secret() -> str:
    """A new token, which only its owner will know."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def digest(secret: bytes) -> str:
    """What is kept of a token.

    One round of SHA-256 without salt: a token has 256 random bits, so there is no list of likely
    ones to try, which is what slow hashes and salts are for; and it is hashed for every request.
    """
    return hashlib.sha256(secret).hexdigest()
