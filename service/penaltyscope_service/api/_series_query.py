"""Which numbers of a run are asked for."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from penaltyscope_service.summary import Quantity


class SeriesQuery(BaseModel):
    """The query string of a series; a misspelt parameter is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    pipeline: str | None = None
    """Default: the run's first."""
    rank: Annotated[int, Field(ge=0)] = 0
    """Whose numbers."""
    term: list[str] = []
    """Terms, ``base`` or ``total``, the parameter repeated for each; default: all of them."""
    quantity: list[Quantity] = []
    """The parameter repeated for each; default: all of them."""
    from_step: int | None = None
    """The first step, included."""
    to_step: int | None = None
    """The last step, included."""
    points: Annotated[int, Field(ge=4, le=100_000)] = 1000
    """Most points of a line."""
