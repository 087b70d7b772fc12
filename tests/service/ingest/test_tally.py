"""The same text as that of ``prometheus_client``'s own classes."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from penaltyscope_service.ingest._tally import Counts, Distributions

BOUNDS = (0.001, 0.5, 1.0, 4096.0)
OBSERVED = (0.0, 0.001, 0.0011, 0.5, 0.75, 1.0, 4096.0, 4096.5, 1e9)


def text(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_counts_are_written_as_a_counter_is() -> None:
    own, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts("records", "Some text.", "event", ("a", "b"), own)
    counter = Counter("records", "Some text.", ["event"], registry=theirs)
    for value in ("a", "b"):
        counter.labels(value)

    counts.add("a", 2)
    counter.labels("a").inc(2)

    assert text(own) == text(theirs)
    assert 'records_total{event="b"} 0.0' in text(own)


def test_distributions_are_written_as_a_histogram_is() -> None:
    own, theirs = CollectorRegistry(), CollectorRegistry()
    seconds = Distributions("s", "Text.", BOUNDS, own, label="code", values=("200", "400"))
    histogram = Histogram("s", "Text.", ["code"], buckets=BOUNDS, registry=theirs)
    histogram.labels("400")

    for value in OBSERVED:
        seconds.of["200"].observe(value)
        histogram.labels("200").observe(value)

    assert sorted(text(own)) == sorted(text(theirs))


def test_a_distribution_may_have_no_label() -> None:
    own, theirs = CollectorRegistry(), CollectorRegistry()
    (sizes,) = Distributions("bytes", "Text.", BOUNDS, own).of.values()
    histogram = Histogram("bytes", "Text.", buckets=BOUNDS, registry=theirs)

    for value in OBSERVED:
        sizes.observe(value)
        histogram.observe(value)

    assert text(own) == text(theirs)
