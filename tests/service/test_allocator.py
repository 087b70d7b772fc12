import ctypes
import subprocess
import sys

import pytest

from penaltyscope_service.allocator import keep_freed_memory

_FAULTS = """
import resource
import numpy as np
from penaltyscope_service.allocator import keep_freed_memory

def work():
    arrays = [np.ones(50_000) for _ in range(10)]
    arrays += [array + 1 for array in arrays]

keep_freed_memory()
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_memory_that_was_freed_is_taken_again_without_the_system() -> None:
    command = [sys.executable, "-c", _FAULTS]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(output) < 100  # it is a thousand where all of it comes from the system each time


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    keep_freed_memory()
