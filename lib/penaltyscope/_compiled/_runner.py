"""A compiled function, and what is done when there is none."""

import logging
from typing import Final

import torch

from penaltyscope._compiled._apart import Backend, compiled_apart, resolved
from penaltyscope._compiled._direct import Direct, Recorder, kind_of, tensors_of
from penaltyscope._compiled._graph import Blueprint, Inputs, Outputs, evaluate
from penaltyscope._compiled._tables import Tables

_logger = logging.getLogger("penaltyscope")

_MOST_KINDS: Final = 256
"""Of tensors, such as their shapes, that are remembered."""


class Runner:
    """``evaluate``, compiled apart from all others: each has its own graphs."""

    def __init__(self, backend: Backend) -> None:
        self._recorder = Recorder(resolved(backend))
        self._run = compiled_apart(evaluate, self._recorder)
        self._direct: dict[object, Direct | None] = {}
        self._broken = False

    def __call__(self, blueprint: Blueprint, tables: Tables, given: Inputs) -> Outputs | None:
        """What ``evaluate`` returns; None if it cannot be compiled, which is logged once.

        Args:
            blueprint: the same at every call.
            tables: likewise.
            given: what may be another.

        Raises:
            RuntimeError: there is no C++ compiler where one is needed.
        """
        if self._broken:
            return None
        try:
            return self._found(blueprint, tables, given)
        except Exception as error:
            if _lacks_compiler(error):
                raise RuntimeError(
                    "compile=True needs a C++ compiler for tensors on the CPU, got none: install "
                    "g++, or name another by the variable CXX."
                ) from error
            self._broken = True
            _logger.warning("compile=True: terms are evaluated without a graph: %s", error)
            return None

    def direct(self, given: Inputs) -> Direct | None:
        """What runs for such tensors from now on; None if the compiler is asked."""
        return None if given.traced else self._direct.get(kind_of(tensors_of(given)))

    def _found(self, blueprint: Blueprint, tables: Tables, given: Inputs) -> Outputs:
        kind = None if given.traced else kind_of(tensors_of(given))
        direct = self._direct.get(kind)
        if direct is not None:
            return direct(given)
        with torch.no_grad():
            found: Outputs = self._run(blueprint, tables, given)
        run = self._recorder.take()
        if kind is not None and kind not in self._direct:
            if len(self._direct) >= _MOST_KINDS:
                self._direct.clear()
            constants = [tables.matrix, *tables.fields, *tables.products]
            self._direct[kind] = Direct.of(run, given, constants, found)
        return found


def _lacks_compiler(error: BaseException | None) -> bool:
    # By name: the class has no public place.
    while error is not None:
        if type(error).__name__ == "InvalidCxxCompiler":
            return True
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return False
