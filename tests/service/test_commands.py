"""Commands beside ``serve``, on real folders, with and without a service that writes to them."""

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from penaltyscope_events import names
from penaltyscope_service.cli import cli
from penaltyscope_service.history import Archive
from penaltyscope_service.joining import join
from tests.service.blocks import make_block, make_request
from tests.service.observed import Clock, batch, counters, ending, event, open_observatory
from tests.service.process import SCRIPT, serve
from tests.service.steps import NAN, make_steps, same_steps


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a run of which everything is known that a run can have."""
    observatory = open_observatory(tmp_path / "data", Clock(time.time()))
    steps = make_steps(
        range(1500), ["a", "b,c"], value=[1.0, NAN], flags=[0, 16], norm=[0.1, NAN], base=None
    )
    more = make_steps([0, 1], ["x"], pipeline="q", value=float("-inf"))
    started = event(names.RUN_START, 1)
    for dropped in (5, 2):  # two processes, one after the other
        report = event(names.RUN_HEARTBEAT, 10 - dropped, dropped_steps=dropped, overhead=0.5)
        observatory.ingest([batch(steps, more, events=[started, report], tags={"lr": "0.1"})])
    incident = event(names.INCIDENT, 7)
    observatory.ingest([batch(make_steps(range(3)), rank=1, events=[incident, ending("failed")])])
    observatory.close()
    return tmp_path / "data"


def test_csv_has_a_row_for_each_term_of_each_evaluation(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("export", "r", "--data-dir", folder).stdout)))
    assert len(rows) == 2 * 1500 + 2 + 2 * 3
    first, second = rows[:2]
    assert (first["term"], first["value"], first["gradient_norm"]) == ("a", "1.0", "0.1")
    assert (second["term"], second["value"], second["gradient_norm"]) == ("b,c", "NaN", "")
    assert (first["base"], rows[-1]["base"], rows[3000]["value"]) == ("", "1.0", "-Infinity")
    assert {row["rank"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize("of", ["r", "short"])
def test_an_export_whose_reader_has_enough_ends_without_a_word(folder: Path, of: str) -> None:
    observatory = open_observatory(folder)
    observatory.ingest([batch(make_steps([0]), run="short")])
    observatory.close()
    command = [sys.executable, "-c", SCRIPT, "export", of, "--data-dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_parquet_has_the_same_rows_as_csv(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    run("export", "r", "--format", "parquet", "--output", file, "--data-dir", folder)
    table = pq.read_table(file).to_pydict()
    rows = list(csv.DictReader(io.StringIO(run("export", "r", "--data-dir", folder).stdout)))
    assert list(table) == list(rows[0])
    for name in ("seq", "step", "time_ns", "term", "incarnation", "flags", "rank"):
        assert [str(value) for value in table[name]] == [row[name] for row in rows]
    assert table["gradient_norm"][:2] == [0.1, None]
    assert np.isnan(table["value"][1])
    assert table["base"][0] is None


def test_parquet_without_pyarrow_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penaltyscope_service.export._parquet.find_spec", lambda name: None)
    result = run("export", "r", "--format", "parquet", "--data-dir", folder)
    assert result.exit_code == 2
    assert result.stderr == "error: parquet needs pyarrow: pip install 'penaltyscope[parquet]'.\n"


def test_what_was_exported_can_be_imported_and_is_the_same_run(
    folder: Path, tmp_path: Path
) -> None:
    file, copy = tmp_path / "r.jsonl", tmp_path / "copy"
    run("export", "r", "--format", "jsonl", "-o", file, "--data-dir", folder)
    assert all(json.loads(line) for line in file.read_text().splitlines())
    result = run("import", file, "--data-dir", copy)
    assert (result.exit_code, result.stdout) == (
        0,
        f"{file}: 1505 evaluations, 0 lines that cannot be read\n",
    )
    again = tmp_path / "again.jsonl"
    run("export", "r", "--format", "jsonl", "-o", again, "--data-dir", copy)
    assert again.read_bytes() == file.read_bytes()
    for one, other in zip(_steps(folder), _steps(copy), strict=True):
        assert same_steps(one, other)


def _steps(folder: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
    with Archive.open(folder / "history.sqlite", "r") as archive:
        assert archive is not None
        return [join(list(archive.steps(stream))) for stream in archive.streams]


def test_importing_what_is_there_already_counts_nothing_twice(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    run("export", "r", "--format", "jsonl", "-o", file, "--data-dir", folder)
    before = open_observatory(folder)
    page = counters(before.render())
    before.close()
    for _ in range(2):
        assert run("import", file, file, "--data-dir", folder).exit_code == 0
    after = open_observatory(folder)
    twice = "ingest_duplicate_records_total"
    now = counters(after.render())
    assert now.pop(twice) != page.pop(twice)
    assert now == page
    after.close()


def test_a_line_that_cannot_be_read_is_named_and_the_others_are_kept(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.jsonl"
    run("export", "r", "--format", "jsonl", "-o", file, "--data-dir", folder)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:10], "{}\n", *lines[10:]]))
    result = run("import", file, "--data-dir", tmp_path / "copy")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{file}: line 11: ")
    assert "1505 evaluations, 1 lines that cannot be read" in result.stdout


def test_a_running_service_is_exported_backed_up_and_imported_into(
    folder: Path, tmp_path: Path
) -> None:
    exported, backup, target = tmp_path / "r.jsonl", tmp_path / "backup", tmp_path / "target"
    with serve(folder) as service:
        body = make_request(make_block(5), run="other")
        headers = {"content-type": "application/x-protobuf"}
        assert httpx.post(f"{service.url}/v1/logs", content=body, headers=headers).is_success
        result = run("backup", backup, "--data-dir", folder)
        assert result.stdout == f"{backup}: {backup.stat().st_size} bytes\n"
        run("export", "other", "--format", "jsonl", "-o", exported, "--data-dir", folder)
        refused = run("import", exported, "--data-dir", folder)
        assert refused.exit_code == 2
        assert f"is in use by process {service.process.pid}" in refused.stderr
    with serve(target) as service:
        for _ in range(2):
            assert run("import", exported, "--url", service.url).exit_code == 0
        (summary,) = httpx.get(f"{service.url}/api/runs").json()["runs"]
        assert (summary["run"], summary["steps"]) == ("other", 5)
    restored = tmp_path / "restored"
    restored.mkdir()
    backup.rename(restored / "history.sqlite")
    observatory = open_observatory(restored)
    assert {summary.run: summary.steps for summary in observatory.runs()} == {"r": 1505, "other": 5}
    observatory.close()


def test_a_backup_never_overwrites(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").touch()
    result = run("backup", tmp_path / "backup", "--data-dir", folder)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path / 'backup'} must not exist yet.\n",
    )


def test_a_run_or_a_history_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    assert run("export", "x", "--data-dir", folder).stderr == (
        f"error: run must be one in {folder}, got 'x'.\n"
    )
    for command in (["export", "x"], ["backup", str(tmp_path / "backup")]):
        result = run(*command, "--data-dir", tmp_path / "none")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {tmp_path / 'none' / 'history.sqlite'} must be a")
        assert not (tmp_path / "none").exists()
