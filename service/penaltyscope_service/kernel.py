"""Loops compiled to machine code: one pass over numbers where arrays would need a dozen.

Between a request and its answer there are hundreds of numbers and no thousands: what many calls of
NumPy cost by being called is most of what they cost.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
from numba import types
from numba.core.typing.templates import Signature

_Function = TypeVar("_Function", bound=Callable[..., Any])

BYTES: Final = types.Array(types.uint8, 1, "C", readonly=True)
"""The type of an array of bytes that is only read, as ``np.frombuffer`` makes of ``bytes``."""


def kernel(*signatures: Signature, nogil: bool = False) -> Callable[[_Function], _Function]:
    """Compiles a function, when it is defined, for arguments of exactly these types.

    Of what it does wrong nothing is noticed: no index is checked, and integers overflow; with
    ``NUMBA_BOUNDSCHECK=1`` indices are checked. What was compiled is kept in ``NUMBA_CACHE_DIR``,
    beside the module, or in the user's own cache, whichever is there and may be written; where
    none is, every process compiles anew.

    Args:
        signatures: Numba's, of which the first fitting one is taken.
        nogil: lets other threads of Python run meanwhile. To get the interpreter's lock back from
            one of them takes longer than a short loop.
    """

    def compile_it(function: _Function) -> _Function:
        compile_and_keep, compile_only = (
            numba.njit(list(signatures), cache=cache, nogil=nogil, error_model="numpy")
            for cache in (True, False)
        )
        try:
            compiled: object = compile_and_keep(function)
        except RuntimeError:  # there is no folder for it
            compiled = compile_only(function)
        return cast("_Function", compiled)

    return compile_it
