"""Which runs are asked for."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from penaltyscope_service.summary import State


class RunsQuery(BaseModel):
    """The query string of a list of runs; a misspelt parameter is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    state: list[State] = []
    """The parameter repeated for each; default: all of them."""
    after: str | None = None
    """What ``next`` of the page before says; default: from the newest run on."""
    limit: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Most runs of a page; default: all of them."""
