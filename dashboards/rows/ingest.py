"""Whether what is shown above is all of it: the way from the recorder to the history."""

from dashboards.panels.lines import lines
from dashboards.panels.place import Panel, properties
from dashboards.query import RUN_RANK, of, over_time, per_second


def panels() -> list[Panel]:
    """What comes in, what is refused or lost, what it costs, and how much is kept."""
    return [_records(), _losses(), _dropped(), _requests(), _overhead(), _kept()]


def _records() -> Panel:
    return lines(
        "Records taken",
        "Records per second by event, of all runs.",
        over_time(f"sum by (event) ({per_second('ingest_records_total')})", "{{event}}"),
        unit="suffix:/s",
        size=(8, 8),
    ).min(0)


def _losses() -> Panel:
    rates = {
        "requests refused": per_second("ingest_request_duration_seconds_count", 'code!~"2.."'),
        "records refused": per_second("ingest_rejected_records_total"),
        "duplicate": per_second("ingest_duplicate_records_total", RUN_RANK, each="run, rank"),
        "missing": per_second("ingest_missing_records_total", RUN_RANK, each="run, rank"),
    }
    return lines(
        "Refused, repeated, missing",
        "Requests that were not answered with 2xx; records that were refused while the rest of"
        " their request was kept. Duplicate: sent again and counted once, which is harmless."
        " Missing: a gap in the sequence numbers that was not filled.",
        *(over_time(f"sum({rate})", name) for name, rate in rates.items()),
        unit="suffix:/s",
        size=(8, 8),
    ).min(0)


def _dropped() -> Panel:
    return lines(
        "Steps dropped by recorders",
        "Steps that a job could not hand over in time, since its start. Training goes on; the"
        " charts have holes.",
        over_time(
            f"max by (run, rank) ({of('recorder_dropped_steps_total', RUN_RANK)})",
            "{{run}} · rank {{rank}}",
        ),
        unit="short",
        size=(8, 8),
        steps=((None, "green"), (1, "orange")),
    ).min(0)


def _requests() -> Panel:
    by_le = f"sum by (le) ({per_second('ingest_request_duration_seconds_bucket')})"
    return lines(
        "Request time",
        "From the first byte of a request to its answer; durable by then.",
        *(
            over_time(f"histogram_quantile({q}, {by_le})", f"{q:.0%} of requests")
            for q in (0.5, 0.99)
        ),
        unit="s",
        size=(8, 8),
    ).min(0)


def _overhead() -> Panel:
    overhead = f"max by (run, rank) ({of('recorder_overhead_seconds', RUN_RANK)})"
    counted = f"max by (run, pipeline, rank) ({of('pipeline_steps_total', RUN_RANK)})"
    steps = f"sum by (run, rank) ({counted})"
    return lines(
        "Recording, per step",
        "Time of the training thread that recording takes, the mean since the start.",
        over_time(f"{overhead} / {steps}", "{{run}} · rank {{rank}}"),
        unit="s",
        size=(8, 8),
    ).min(0)


def _kept() -> Panel:
    return (
        lines(
            "Kept",
            "Size of the history; on the right the series on /metrics, and those refused because of"
            " the limit.",
            over_time(f"sum({of('history_size_bytes')})", "history"),
            over_time(f"sum({of('series')})", "series"),
            over_time(f"sum({of('series_refused_total')})", "series refused"),
            unit="short",
            size=(8, 8),
        )
        .min(0)
        .override_by_name("history", properties({"unit": "bytes"}))
        .override_by_regexp("series.*", properties({"custom.axisPlacement": "right"}))
    )
