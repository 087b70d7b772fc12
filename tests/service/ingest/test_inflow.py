from contextlib import closing

import pytest

from penaltyscope_service.ingest._inflow import Inflow
from penaltyscope_service.refusal import RefusedError


def test_bodies_that_are_read_at_the_same_time_share_a_bound() -> None:
    inflow = Inflow(1_000)
    with closing(inflow.begin()) as first:
        first.add(2_000)  # alone, it may be of any size
        with (
            pytest.raises(RefusedError, match="2 bodies of 2001 bytes") as caught,
            closing(inflow.begin()) as second,
        ):
            second.add(1)
        assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)
    with closing(inflow.begin()) as third, closing(inflow.begin()) as fourth:
        third.add(500)
        fourth.add(500)
