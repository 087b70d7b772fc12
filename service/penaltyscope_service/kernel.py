"""Loops compiled to machine code: one pass over numbers where arrays would need a dozen.

Between a request and its answer there are hundreds of numbers and no thousands: what many calls of
NumPy cost by being called is most of what they cost.
"""

import logging
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core.typing.templates import Signature
from numba.extending import typeof_impl
from numpy.typing import NDArray

_logger: Final = logging.getLogger(__name__)

_LONG_SECONDS: Final = 2.0
"""More than to take kernels from where they were kept."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Number = TypeVar("_Number", bound=np.generic)

BYTES: Final = types.Array(types.uint8, 1, "C", readonly=True)
"""The type of an array of bytes that is only read, as ``np.frombuffer`` makes of ``bytes``."""


def by_term(table: NDArray[_Number]) -> NDArray[_Number]:
    """``[T, N]`` of ``[N, T]``, one term's numbers after the other's, as decoded blocks have them.

    So loops read what lies side by side.
    """
    return np.ascontiguousarray(table.T)


class _Compilable:
    """A function that is compiled when it is first called, or when one is that calls it."""

    def __init__(
        self, function: Callable[..., Any], signatures: tuple[Signature, ...], *, called: bool
    ) -> None:
        self._function = function
        self._signatures = signatures
        self._called = called
        """From Python; what only others call needs no way in, and is kept within them."""

    @cached_property
    def dispatcher(self) -> Any:  # noqa: ANN401  # its stubs do not know what it can do
        """Numba's own, which may still have to be compiled."""
        njit: Any = numba.njit
        if not self._called:
            return njit(error_model="numpy", no_cpython_wrapper=True)(self._function)
        try:
            return njit(error_model="numpy", cache=True)(self._function)
        except RuntimeError:  # there is no folder for it
            return njit(error_model="numpy")(self._function)

    @cached_property
    def compiled(self) -> Any:  # noqa: ANN401  # as above
        """The same, for its own types only."""
        for signature in self._signatures:
            self.dispatcher.compile(signature)
        self.dispatcher.disable_compile()
        return self.dispatcher

    def __call__(self, *arguments: object) -> object:
        """Runs it."""
        return self.compiled(*arguments)


_kernels: Final[list[_Compilable]] = []


@typeof_impl.register(_Compilable)
def _type_of(function: _Compilable, _: object) -> types.Type:
    in_progress = "dispatcher" in vars(function)  # it calls itself, or is done
    return types.Dispatcher(function.dispatcher if in_progress else function.compiled)


def kernel(*signatures: Signature) -> Callable[[_Function], _Function]:
    """Makes a function one that Python calls compiled, with arguments of exactly these types.

    It keeps the interpreter's lock: to get that back from another thread would take longer than a
    short loop. Of what it does wrong nothing is noticed: no index is checked, and integers
    overflow; with ``NUMBA_BOUNDSCHECK=1`` indices are checked. What was compiled is kept in
    ``NUMBA_CACHE_DIR``, beside the module, or in the user's own cache, whichever is there and may
    be written; where none is, every process compiles anew.

    Args:
        signatures: Numba's, of which the first fitting one is taken.
    """

    def decorate(function: _Function) -> _Function:
        _kernels.append(_Compilable(function, signatures, called=True))
        return cast("_Function", _kernels[-1])

    return decorate


def part(*signatures: Signature) -> Callable[[_Function], _Function]:
    """The same for a function that only kernels of its own module call."""

    def decorate(function: _Function) -> _Function:
        return cast("_Function", _Compilable(function, signatures, called=False))

    return decorate


def compile_kernels() -> None:
    """Compiles all kernels that were defined so far, or takes them from where they were kept."""
    until, said = time.monotonic() + _LONG_SECONDS, False
    for defined in _kernels:
        _ = defined.compiled
        if not said and time.monotonic() > until:
            said = True
            _logger.info("compiling, which takes so long at the first start only")
