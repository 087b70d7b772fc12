from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.aggregate import StreamAggregate, glance, take_snapshot
from penaltyscope_service.history import NewBlock, Place, keep, unite
from tests.service.steps import NAN, UNHURRIED, make_steps

ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["first", "second"]),
        st.lists(st.integers(0, 20), min_size=1, max_size=4, unique=True),
        st.sampled_from([1.0, NAN]),
    ),
    max_size=6,
)
SHOWN = ("steps", "nonfinite_steps", "first", "last_step", "progress_at")


@UNHURRIED
@given(ARRIVALS, st.integers(0, 6))
def test_a_glance_shows_what_adding_the_evaluations_would(
    given_arrivals: list[tuple[int, str, list[int], float]], added: int
) -> None:
    arrivals = []
    now = 1.7e9
    for pause, incarnation, seq, value in given_arrivals:
        now += pause
        steps = make_steps(seq, value=value, incarnation=incarnation)
        arrivals.append(keep(NewBlock(Place(1, 2, 3), now, steps)))
    whole = StreamAggregate.empty()
    for arrival in arrivals[:added]:
        whole.add(unite([arrival]), received_at=arrival.received_at, period=0)
    before = take_snapshot(whole)

    seen = glance(whole, arrivals[added:], lambda arrival: unite([arrival]))

    assert take_snapshot(whole) == before
    whole = deepcopy(whole)
    for arrival in arrivals[added:]:
        whole.add(unite([arrival]), received_at=arrival.received_at, period=0)
    for name in SHOWN:
        assert getattr(seen, name) == getattr(whole, name)
    assert seen.intervals.median.tobytes() == whole.intervals.median.tobytes()
