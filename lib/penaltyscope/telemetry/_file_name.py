"""Names of files that belong to one process of one run."""

from urllib.parse import quote

from penaltyscope_events import RunIdentity

_LONGEST = 120
"""Characters of the run's id; the incarnation tells apart what is cut to the same."""


def file_stem(identity: RunIdentity, incarnation: str) -> str:
    """A name that no other process has, and that tells whose it is."""
    return f"{quote(identity.run_id, safe='')[:_LONGEST]}.rank{identity.rank}.{incarnation}"
