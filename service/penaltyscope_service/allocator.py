"""What the C library does with memory that is not needed any more."""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGEST_KEPT: Final = 8 * 1024**2
"""Arrays of this size and larger are given back as soon as they are freed."""
_MOST_KEPT: Final = 32 * 1024**2
"""Of free memory at the end of what threads allocate from, for each such arena."""


def keep_freed_memory() -> None:
    """Keeps some memory for the next time; does so with glibc, and nothing with another library.

    Packing a block frees a few megabytes and takes them again for the next one. To get them from
    the system each time, page by page, can take as long as the packing itself.
    Reference: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
