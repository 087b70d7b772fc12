"""How much one token may send: a bucket that fills with time and may go into debt."""

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from penaltyscope_service.access._denial import DeniedError

_logger: Final = logging.getLogger(__name__)

_BURST_SECONDS: Final = 10
"""A recorder that was cut off sends what it has kept, at once."""


class Quota:
    """Records that may be sent.

    How many are in a request is known once it is decoded, when refusing it would waste the work:
    it is kept, charged, and the next one waits until the debt is paid.
    """

    def __init__(self, name: str, per_second: float, clock: Callable[[], float]) -> None:
        self._name = name
        self.per_second = per_second
        self.refused = 0
        """Requests."""
        self._clock = clock
        self._most = per_second * _BURST_SECONDS
        self._level = self._most
        self._at = clock()
        self._said = False

    def require(self) -> None:
        """Raises DeniedError (429) while there is debt."""
        self._fill()
        if self._level >= 0:
            return
        self.refused += 1
        if not self._said:
            self._said = True
            _logger.warning(
                "the token %r sends more than its %g records per second; further refusals only "
                "count in penaltyscope_ingest_throttled_requests_total",
                *(self._name, self.per_second),
            )
        raise DeniedError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"the token {self._name!r} may send {self.per_second:g} records per second on "
            "average; send this again later.",
            retry_after_seconds=math.ceil(-self._level / self.per_second),
        )

    def charge(self, records: int) -> None:
        """Takes what has been sent."""
        self._fill()
        self._level -= records

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._at) * self.per_second)
        self._at = now
