"""When an evaluation was."""

import struct
from dataclasses import replace

from torch import Tensor

from penaltyscope.result import stamped
from tests.lib.pipelines import two_terms


def test_times_are_told_as_they_were_packed(x: Tensor) -> None:
    stop_ns, duration = 1_700_000_000_123_456_789, 0.25
    stamp = stamped(7, stop_ns, duration)
    assert struct.unpack("3qd", stamp) == (7, stop_ns - 250_000_000, stop_ns, duration)
    statistics = replace(two_terms()(x).statistics, stamp=stamp)
    assert (statistics.stop_ns, statistics.duration) == (stop_ns, duration)
