import math
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from penaltyscope_service.exposition._lines import Strings
from penaltyscope_service.exposition._text import (
    Family,
    Histograms,
    Samples,
    format_labels,
    write_histograms,
    write_samples,
)
from tests.service.steps import ANY, INF, NAN, UNHURRIED

GAUGE = Family("some_gauge", "gauge", "Some gauge.")


def format_samples(family: Family, *groups: Samples) -> tuple[bytes, int]:
    page = BytesIO()
    count = write_samples(page, family, groups)
    return page.getvalue(), count


def format_histograms(family: Family, histograms: Histograms) -> tuple[bytes, int]:
    page = BytesIO()
    count = write_histograms(page, family, histograms)
    return page.getvalue(), count


NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@UNHURRIED
@given(st.lists(st.tuples(NAME, NAME), min_size=1, unique=True))
def test_any_name_comes_through_as_prometheus_own_client_writes_it(
    names: list[tuple[str, str]],
) -> None:
    owners = [format_labels({"run": run, "term": term}) for run, term in names]
    text, _ = format_samples(GAUGE, Samples(Strings.of(owners), np.arange(float(len(names)))))
    registry = CollectorRegistry()
    gauge = Gauge("some_gauge", "Some gauge.", ["run", "term"], registry=registry)
    for i, (run, term) in enumerate(names):
        gauge.labels(run=run, term=term).set(i)
    assert text == generate_latest(registry)


@UNHURRIED
@given(st.lists(ANY, min_size=1, max_size=50))
def test_numbers_come_through_to_the_last_bit_and_nan_is_left_out(numbers: list[float]) -> None:
    owners = [format_labels({"i": i}) for i in range(len(numbers))]
    text, count = format_samples(GAUGE, Samples(Strings.of(owners), np.array(numbers)))
    there = {str(i): n for i, n in enumerate(numbers) if not math.isnan(n)}
    families = list(text_string_to_metric_families(text.decode()))
    found = {s.labels["i"]: s.value for family in families for s in family.samples}
    assert {i: repr(n) for i, n in found.items()} == {i: repr(n) for i, n in there.items()}
    assert count == len(there)


def test_a_family_without_samples_is_not_there_at_all() -> None:
    assert format_samples(GAUGE, Samples(Strings.of([b'i="0"']), np.array([NAN]))) == (b"", 0)
    nothing = Histograms(Strings.of([]), np.empty((0, 3), np.int64), np.empty(0), (1.0, 2.0))
    assert format_histograms(GAUGE, nothing) == (b"", 0)


def test_variants_of_an_owner_follow_each_other() -> None:
    owners = Strings.of([b'run="a"', b'run="b"'])
    numbers = np.array([[1, 2], [3, 4]])
    text, count = format_samples(
        Family("some_total", "counter", "Some."), Samples(owners, numbers, [b',k="x"', b',k="y"'])
    )
    assert text.decode().splitlines() == [
        "# HELP some_total Some.",
        "# TYPE some_total counter",
        'some_total{run="a",k="x"} 1',
        'some_total{run="a",k="y"} 2',
        'some_total{run="b",k="x"} 3',
        'some_total{run="b",k="y"} 4',
    ]
    assert count == 4


def test_histograms_are_cumulative_and_end_with_everything() -> None:
    histograms = Histograms(
        Strings.of([b'run="a"']), np.array([[1, 0, 2]]), np.array([2.5]), (0.5, 1.0)
    )
    text, count = format_histograms(Family("some", "histogram", "Some."), histograms)
    assert text.decode().splitlines()[2:] == [
        'some_bucket{run="a",le="0.5"} 1',
        'some_bucket{run="a",le="1.0"} 1',
        'some_bucket{run="a",le="+Inf"} 3',
        'some_sum{run="a"} 2.5',
        'some_count{run="a"} 3',
    ]
    assert count == 5


@pytest.mark.parametrize(("number", "text"), [(INF, "+Inf"), (-INF, "-Inf")])
def test_infinities_are_spelt_as_prometheus_spells_them(number: float, text: str) -> None:
    written, _ = format_samples(GAUGE, Samples(Strings.of([b'i="0"']), np.array([number])))
    assert written.decode().splitlines()[-1] == f'some_gauge{{i="0"}} {text}'
