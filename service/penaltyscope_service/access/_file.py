"""The file of tokens: one TOML table for each, readable by its owner only."""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penaltyscope_service.access._token import Token, digest, make_secret


class TokensError(Exception):
    """The file of tokens cannot be used."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[list[Token], Field(min_length=1)]

    @model_validator(mode="after")
    def _are_told_apart(self) -> "_File":
        for key in ("name", "sha256"):
            values = [getattr(token, key) for token in self.token]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"{key} must be different for every token, got {twice!r} twice")
        return self

    @model_validator(mode="after")
    def _are_of_tenants_or_not(self) -> "_File":
        """A sender of no tenant could give its runs names that look like a tenant's."""
        tenants = any(token.tenant for token in self.token)
        for token in self.token:
            if tenants and token.tenant is None and "ingest" in token.scopes:
                raise ValueError(
                    f"{token.name!r} must have a tenant, as every token with the scope ingest "
                    "where any token has one"
                )
        return self


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Every token of the file, at least one.

    Raises:
        TokensError: if it cannot be read, others may write it, or it makes no sense.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            document = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise TokensError(f"cannot read {path}: {error}") from error
    if mode & 0o022:
        raise TokensError(
            f"{path} must not be writable by others (chmod 600), got {mode & 0o777:o}."
        )
    try:
        return tuple(_File.model_validate(document).token)
    except ValidationError as error:
        raise TokensError(f"{path}: {_first_problem(error)}") from error


def add_token(
    path: Path,
    name: str,
    scopes: Sequence[str],
    *,
    tenant: str | None = None,
    records_per_second: float | None = None,
) -> str:
    """Adds a token to the file, which is made where it is missing, and returns it.

    Raises:
        TokensError: if the file cannot be used, or has a token of this name.
    """
    known = read_tokens(path) if path.exists() else ()
    if name in {token.name for token in known}:
        raise TokensError(f"{path} has a token {name!r} already.")
    secret = make_secret()
    try:
        token = Token.model_validate(
            {
                "name": name,
                "sha256": digest(secret.encode()),
                "scopes": list(dict.fromkeys(scopes)),
                "tenant": tenant,
                "records_per_second": records_per_second,
            }
        )
        _File(token=[*known, token])
    except ValidationError as error:
        raise TokensError(_first_problem(error)) from error
    _append(path, _table(token))
    return secret


def _first_problem(error: ValidationError) -> str:
    """What is wrong and where, without the value: it may be a token in the wrong place."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{place or 'token'}: {message[:1].lower()}{message[1:]}."


def _table(token: Token) -> str:
    """None of its values has a character that TOML would want escaped."""
    scopes = ", ".join(f'"{scope}"' for scope in token.scopes)
    lines = ["[[token]]", f'name = "{token.name}"', f'sha256 = "{token.sha256}"']
    lines.append(f"scopes = [{scopes}]")
    if token.tenant is not None:
        lines.append(f'tenant = "{token.tenant}"')
    if token.records_per_second is not None:
        lines.append(f"records_per_second = {float(token.records_per_second)!r}")
    return "\n".join(lines) + "\n\n"


def _append(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "a", encoding="ascii") as file:  # noqa: PTH123  # a descriptor
            file.write(text)
    except OSError as error:
        raise TokensError(f"cannot write {path}: {error}") from error
