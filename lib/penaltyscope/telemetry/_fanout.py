"""Several channels as one."""

import time
from collections.abc import Sequence

from penaltyscope.telemetry._channel import Channel, Steps
from penaltyscope.telemetry._lane import Lane
from penaltyscope_events import Event


class FanOut:
    """Gives every batch to each channel, in a lane of its own: none waits for another."""

    def __init__(self, channels: Sequence[tuple[str, Channel]]) -> None:
        self._lanes = [Lane(channel, name=name) for name, channel in channels]

    @property
    def lost_steps(self) -> int:
        """Steps that the channel with the most losses has lost."""
        return max(lane.lost_steps for lane in self._lanes)

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Leaves one batch in every lane."""
        for lane in self._lanes:
            lane.send(steps, events)

    def flush(self, timeout_seconds: float) -> bool:
        """Waits for all lanes; false if one has not delivered within the time."""
        deadline = time.monotonic() + timeout_seconds
        arrived = [lane.flush(max(deadline - time.monotonic(), 0.0)) for lane in self._lanes]
        return all(arrived)

    def close(self, timeout_seconds: float) -> None:
        """Ends all lanes at the same time."""
        deadline = time.monotonic() + timeout_seconds
        for lane in self._lanes:
            lane.begin_close(deadline)
        for lane in self._lanes:
            lane.close(max(deadline - time.monotonic(), 0.0))
