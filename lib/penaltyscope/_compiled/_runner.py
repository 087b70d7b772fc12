"""A compiled function, and what is done when there is none."""

import logging

from penaltyscope._compiled._apart import Backend, compiled_apart
from penaltyscope._compiled._graph import Blueprint, Inputs, Outputs, evaluate
from penaltyscope._compiled._tables import Tables

_logger = logging.getLogger("penaltyscope")


class Runner:
    """``evaluate``, compiled apart from all others: each has its own graphs."""

    def __init__(self, backend: Backend) -> None:
        self._run = compiled_apart(evaluate, backend)
        self._broken = False

    def __call__(self, blueprint: Blueprint, tables: Tables, given: Inputs) -> Outputs | None:
        """What ``evaluate`` returns; None if it cannot be compiled, which is logged once.

        Raises:
            RuntimeError: there is no C++ compiler where one is needed.
        """
        if self._broken:
            return None
        try:
            found: Outputs = self._run(blueprint, tables, given)
        except Exception as error:
            if _lacks_compiler(error):
                raise RuntimeError(
                    "compile=True needs a C++ compiler for tensors on the CPU, got none: install "
                    "g++, or name another by the variable CXX."
                ) from error
            self._broken = True
            _logger.warning("compile=True: terms are evaluated without a graph: %s", error)
            return None
        return found


def _lacks_compiler(error: BaseException | None) -> bool:
    # By name: the class has no public place.
    while error is not None:
        if type(error).__name__ == "InvalidCxxCompiler":
            return True
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return False
