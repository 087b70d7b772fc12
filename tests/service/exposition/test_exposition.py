"""What is on ``/metrics`` about runs, held against what was sent."""

import logging
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from penaltyscope_events import FINDINGS, names
from penaltyscope_service.aggregate import DURATION_BOUNDS, NORM_BOUNDS
from penaltyscope_service.decode import Batch
from penaltyscope_service.observatory import Observatory
from tests.service.observed import (
    Clock,
    batch,
    ending,
    event,
    labels,
    open_observatory,
    read,
)
from tests.service.steps import INF, NAN, make_steps

P = {"run": "r", "pipeline": "p"}


def test_every_number_is_the_one_that_was_sent(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    observatory = open_observatory(tmp_path, clock)
    random = np.random.default_rng(0)
    shape = (60, 2)
    value, norm = random.random(shape), random.random(shape) * 100
    weight, duration = random.random(shape), random.random(60)
    base, total_norm = random.random(60), random.random(60)
    block = make_steps(
        range(60),
        step=np.arange(60) * 3,
        value=value,
        norm=norm,
        weight=weight,
        duration=duration,
        base=base,
        total_norm=total_norm,
    )
    observatory.ingest([batch(block, tags={"lr": "0.1"})])
    samples = read(observatory.render())
    observatory.close()

    total = (value * weight).sum(axis=1)
    run, process = labels(run="r"), labels(run="r", rank=0)
    assert samples["run_info"] == {labels(run="r", tenant="", tag_lr="0.1"): 1}
    assert samples["run_last_step"] == {process: 177}
    assert samples["run_last_progress_timestamp_seconds"] == {process: 1000}
    assert samples["run_last_received_timestamp_seconds"] == {process: 1000}
    assert samples["run_step_interval_seconds"] == {run: pytest.approx(0.1 / 3)}
    assert samples["pipeline_steps_total"] == {labels(**P, rank=0): 60}
    assert samples["pipeline_penalty"] == {labels(**P): total[-1]}
    assert samples["pipeline_base_loss"] == {labels(**P): base[-1]}
    assert samples["pipeline_loss"] == {labels(**P): total[-1] + base[-1]}
    assert samples["pipeline_gradient_norm"] == {labels(**P): total_norm[-1]}
    assert samples["pipeline_duration_seconds_sum"] == {labels(**P): sum(duration)}
    for bound in DURATION_BOUNDS:
        found = samples["pipeline_duration_seconds_bucket"][labels(**P, le=str(bound))]
        assert found == (duration <= bound).sum()
    weighted = weight[-1] * norm[-1]
    for i, term in enumerate("ab"):
        key = labels(**P, term=term)
        assert samples["term_value"][key] == value[-1, i]
        assert samples["term_weight"][key] == weight[-1, i]
        assert samples["term_contribution"][key] == (value * weight)[-1, i]
        assert samples["term_gradient_norm"][key] == norm[-1, i]
        assert samples["term_gradient_share_ratio"][key] == weighted[i] / weighted.sum()
        assert samples["term_value_window_max"][key] == value[:, i].max()
        assert samples["term_gradient_norm_window_max"][key] == norm[:, i].max()
        groups = [np.sort(norm[j : j + 25, i])[12] for j in (0, 25)]
        assert samples["term_gradient_norm_baseline"][key] == min(groups)
        assert samples["term_gradient_norm_distribution_count"][key] == 60
        assert samples["term_gradient_norm_distribution_sum"][key] == sum(norm[:, i])
        for bound in NORM_BOUNDS:
            bucket = labels(**P, term=term, le=str(bound))
            found = samples["term_gradient_norm_distribution_bucket"][bucket]
            assert found == (norm[:, i] <= bound).sum()


def test_counters_of_findings_are_there_before_anything_is_found(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    observatory.ingest([batch(make_steps([0]), rank=3)])
    found = read(observatory.render())["nonfinite_total"]
    expected = {
        labels(**P, term=term, rank=3, stage=f.stage, kind=f.kind): 0
        for term in ("a", "b", "base")
        for f in FINDINGS
        if term != "base" or f.stage == "value"
    }
    assert found == expected
    observatory.ingest([batch(make_steps([1], value=[[INF, 1.0]], base=NAN), rank=3)])
    found = read(observatory.render())["nonfinite_total"]
    assert {key: n for key, n in found.items() if n} == {
        labels(**P, term="a", rank=3, stage="value", kind="inf"): 1,
        labels(**P, term="base", rank=3, stage="value", kind="nan"): 1,
    }
    observatory.close()


def test_a_gauge_holds_the_last_finite_number_and_is_absent_before_one(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    observatory.ingest([batch(make_steps([0], value=NAN, base=None))])
    samples = read(observatory.render())
    assert "term_value" not in samples
    assert "pipeline_base_loss" not in samples
    observatory.ingest([batch(make_steps([1], value=5.0), make_steps([2], value=NAN))])
    samples = read(observatory.render())
    assert set(samples["term_value"].values()) == {5.0}
    assert set(samples["term_value_window_max"].values()) == {5.0}
    observatory.close()


def test_a_window_maximum_falls_back_to_the_last_number_when_steps_are_rare(
    tmp_path: Path,
) -> None:
    clock = Clock(3000.0)
    observatory = open_observatory(tmp_path, clock, window_seconds=30.0, terminal_grace_seconds=1e6)
    observatory.ingest([batch(make_steps([0, 1], ["a"], norm=[[99.0], [1.0]]))])
    key = labels(**P, term="a")
    for now, peak in ((3000.0, 99.0), (3059.0, 99.0), (3060.0, 1.0), (9999.0, 1.0)):
        clock.now = now
        assert read(observatory.render())["term_gradient_norm_window_max"] == {key: peak}
    observatory.close()


def test_ranks_add_up_and_numbers_are_those_of_the_lowest(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    for rank, value in ((5, 5.0), (2, 2.0), (7, 7.0)):
        steps = make_steps(range(rank), ["a"], value=value, norm=value)
        observatory.ingest([batch(steps, rank=rank)])
    samples = read(observatory.render())
    observatory.close()
    key = labels(**P, term="a")
    assert samples["term_value"] == {key: 2.0}
    assert samples["term_value_window_max"] == {key: 7.0}
    assert samples["term_gradient_norm_distribution_sum"] == {key: 4.0 + 25.0 + 49.0}
    assert samples["pipeline_duration_seconds_count"] == {labels(**P): 14}
    assert samples["pipeline_steps_total"] == {labels(**P, rank=r): r for r in (2, 5, 7)}
    assert samples["run_last_step"] == {labels(run="r", rank=r): r - 1 for r in (2, 5, 7)}


def test_many_pipelines_have_the_lines_that_each_has_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    batches: dict[tuple[str, str], list[Batch]] = {}
    for run, pipeline, ranks in (("a", "p", [0]), ("a", "q", [3, 1, 0]), ("b", "p", [2, 5])):
        for rank in ranks:
            terms = [str(term) for term in random.permutation(list("abcd"))[: 2 + rank % 3]]
            value, norm = random.normal(size=(2, 60, len(terms)))
            value[random.random(value.shape) < 0.3] = NAN
            steps = make_steps(
                range(60),
                terms,
                pipeline=pipeline,
                value=value,
                norm=abs(norm),
                duration=random.random(60),
            )
            batches.setdefault((run, pipeline), []).append(batch(steps, run=run, rank=rank))

    def lines(name: str, given: list[Batch]) -> list[bytes]:
        (tmp_path / name).mkdir()
        observatory = open_observatory(tmp_path / name)
        observatory.ingest(given)
        text = observatory.render()
        observatory.close()
        of_pipelines = [line for line in text.splitlines() if b'pipeline="' in line]
        return sorted(of_pipelines)

    together = lines("together", [one for given in batches.values() for one in given])
    apart = [lines(str(i), given) for i, given in enumerate(batches.values())]
    assert len(together) > 300
    assert together == sorted(line for some in apart for line in some)


def test_new_tags_and_another_tenant_are_shown_at_once(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    for lr, tenant in (("1", ""), ("2", ""), ("2", "t"), ("2", "t")):
        observatory.ingest([batch(tags={"lr": lr})])
        found = read(observatory.render(lambda _, tenant=tenant: tenant))["run_info"]  # type: ignore[misc]
        assert found == {labels(run="r", tenant=tenant, tag_lr=lr): 1}
    observatory.close()


def test_the_state_is_one_of_all_states(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    observatory = open_observatory(tmp_path, clock)
    observatory.ingest([batch(make_steps([0]))])

    def state() -> list[str]:
        found = read(observatory.render())["run_state"]
        assert sorted(found.values()) == [0, 0, 0, 0, 0, 1]
        return [dict(key)["state"] for key, on in found.items() if on]

    assert state() == ["running"]
    clock.now = 1031.0  # 30 seconds, and one because of a record only the second is known
    assert state() == ["running"]
    clock.now = 1032.0
    assert state() == ["lost"]
    observatory.ingest([batch(events=[event(names.RUN_HEARTBEAT)])])
    assert state() == ["running"]
    for clock.now in (1050.0, 1070.0):
        observatory.ingest([batch(events=[event(names.RUN_HEARTBEAT)])])
    assert state() == ["stalled"]
    observatory.ingest([batch(events=[ending("interrupted")])])
    assert state() == ["interrupted"]
    observatory.close()


def test_what_recorders_and_clients_lost_or_sent_twice_is_counted(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    observatory = open_observatory(tmp_path, clock, gap_seconds=60.0, lost_after_seconds=1e6)
    health = event(names.RUN_HEARTBEAT, dropped_steps=4, overhead=0.5)
    observatory.ingest([batch(make_steps([0, 1, 5]), rank=1, events=[health])])
    observatory.ingest([batch(make_steps([0, 1]), rank=1)])
    key = labels(run="r", rank=1)
    samples = read(observatory.render())
    assert samples["recorder_dropped_steps_total"] == {key: 4}
    assert samples["recorder_overhead_seconds"] == {key: 0.5}
    assert samples["ingest_duplicate_records_total"] == {key: 2}
    assert samples["ingest_missing_records_total"] == {key: 0}
    clock.now = 1060.0
    assert read(observatory.render())["ingest_missing_records_total"] == {key: 3}
    observatory.close()


def test_incidents_are_counted_by_kind_and_once(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    spike = event(names.INCIDENT)
    spike.attributes[names.INCIDENT_KIND] = "spike"  # type: ignore[index]
    for _ in range(2):
        observatory.ingest([batch(events=[spike, event(names.INCIDENT)])])
    counts = {labels(run="r", kind="spike"): 1, labels(run="r", kind="unknown"): 1}
    assert read(observatory.render())["incidents_total"] == counts
    observatory.close()


def test_the_series_of_a_run_end_all_at_once_after_its_grace(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    observatory = open_observatory(tmp_path, clock, terminal_grace_seconds=100.0)
    observatory.ingest([batch(make_steps([0]), events=[ending("failed")])])
    observatory.ingest([batch(make_steps([0]), run="silent")])
    clock.now = 1100.0
    assert b'run="r"' in observatory.render()
    clock.now = 1100.5
    text = observatory.render()
    assert b'run="r"' not in text
    assert b'run="silent"' in text
    clock.now = 1130.5  # lost for 100 s
    assert set(read(observatory.render())) == {
        "series",
        "series_refused_total",
        "history_size_bytes",
    }
    observatory.ingest([batch(make_steps([1]), run="silent")])
    assert b'run="silent"' in observatory.render()
    observatory.close()


def test_pipelines_beyond_the_limit_are_kept_but_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(1000.0)
    observatory = open_observatory(tmp_path, clock, series_limit=250, terminal_grace_seconds=10.0)
    for run in ("first", "second", "third"):
        observatory.ingest([batch(make_steps([0]), run=run)])
    for _ in range(3):
        samples = read(observatory.render())
    assert {dict(key)["run"] for key in samples["pipeline_steps_total"]} == {"first", "second"}
    refused = samples["series_refused_total"][()]
    assert refused == 84  # of the third pipeline; its run has 15, for which there was room
    assert samples["series"][()] <= 250
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(lines) == 1
    assert "'third'" in lines[0]
    assert observatory.run("third") is not None
    observatory.ingest([batch(run="first", events=[ending("finished")])])
    clock.now += 10.5
    samples = read(observatory.render())
    assert {dict(key)["run"] for key in samples["pipeline_steps_total"]} == {"second", "third"}
    assert samples["series_refused_total"][()] == refused
    observatory.close()


def test_the_number_of_series_is_that_of_the_samples(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    observatory.ingest([batch(make_steps(range(60)), run=run) for run in "ab"])
    samples = read(observatory.render())
    own = ("series", "series_refused_total", "history_size_bytes")
    count = sum(len(of_name) for name, of_name in samples.items() if name not in own)
    assert samples["series"][()] == count
    files = (tmp_path / "history.sqlite", tmp_path / "history.sqlite-wal")
    assert samples["history_size_bytes"][()] == sum(file.stat().st_size for file in files)
    observatory.close()


def test_tags_become_labels_that_are_valid_different_and_not_too_many(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    tags = {"lr": "1", "l-r": "2", "l.r": "3", "größe": "x" * 300}
    tags |= {f"z{i:02}": "" for i in range(30)}
    observatory.ingest([batch(make_steps([0]), tags=tags)])
    ((key, _),) = read(observatory.render())["run_info"].items()
    found = dict(key)
    assert (found["tag_lr"], found["tag_l_r"]) == ("1", "2")
    assert found["tag_gr__e"] == "x" * 128
    assert len(found) == 2 + 16
    observatory.close()


def hostile() -> list[str]:
    return ['a"} 1\n# HELP x', "\\", "\\n", '"', "{}", "\n\n", "ünï\u2028", "%s", "\x00", "base "]


def test_names_cannot_break_out_of_their_labels(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    terms = hostile()
    block = make_steps([0], terms, pipeline=terms[0])
    observatory.ingest([batch(block, run=terms[0], tags={terms[0]: terms[0]})])
    samples = read(observatory.render())
    observatory.close()
    assert {dict(key)["term"] for key in samples["term_value"]} == set(terms)
    assert {dict(key)["run"] for key in samples["run_state"]} == {terms[0]}


@pytest.mark.real
def test_promtool_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        message = "promtool is not installed"
        assert not os.environ.get("PENALTYSCOPE_REQUIRE_REAL"), message
        pytest.skip(message)
    observatory = _with_everything(tmp_path)
    text = observatory.render()
    observatory.close()
    names_of_all = {line.split()[2] for line in text.decode().splitlines() if line[:6] == "# TYPE"}
    assert len(names_of_all) == 30
    found = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def _with_everything(path: Path) -> Observatory:
    observatory = open_observatory(path)
    health = event(names.RUN_HEARTBEAT, dropped_steps=4, overhead=0.5)
    steps = make_steps(range(60), hostile())
    observatory.ingest([batch(steps, events=[health, event(names.INCIDENT)])])
    return observatory
