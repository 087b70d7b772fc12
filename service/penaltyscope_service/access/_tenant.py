"""Whose runs are whose: the first part of a run's id, which only a token can give it.

One name for a run everywhere, in the history, on ``/metrics`` and in addresses, needs no second key
beside the run: what is of one tenant can neither meet nor be mistaken for what is of another.
"""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

_SEPARATOR = "/"
"""Names of tenants cannot have it in them."""


def own_run(run: str, tenant: str | None) -> str:
    """The run's id as everyone sees it, from the one that a sender gave."""
    return run if tenant is None else f"{tenant}{_SEPARATOR}{run}"


def owner(run: str) -> str:
    """The tenant, if the run is of one."""
    return run.partition(_SEPARATOR)[0]


def may_see(run: str, tenant: str | None) -> bool:
    """Whether a reader of a tenant, or of none, may see a run."""
    return tenant is None or run.startswith(f"{tenant}{_SEPARATOR}")


def with_tenant(scope: Scope, tenant: str | None) -> Scope:
    """A request that is read for a tenant."""
    return {**scope, "state": {**scope.get("state", {}), "tenant": tenant}}


def _of(request: Request) -> str | None:
    tenant: str | None = getattr(request.state, "tenant", None)
    return tenant


Tenant = Annotated[str | None, Depends(_of)]
"""Whose runs the request may see; ``None``: everyone's."""
