"""An observatory on a new file, at a time that the test sets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penaltyscope_service.observatory import Observatory
from tests.service.observed import Clock, open_observatory


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observatory(tmp_path: Path, clock: Clock) -> Iterator[Observatory]:
    observatory = open_observatory(tmp_path, clock)
    yield observatory
    observatory.close()
