"""Files of lines, of a real watch and of the writer alone."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import penaltyscope as ps
from penaltyscope.telemetry import JSONL, OTLP
from penaltyscope_events import Event, RunIdentity, StepBlock, names, read_lines
from tests.killed import killed
from tests.lib.telemetry.kept import SOURCE, steps

EVENT = Event(name="x", time_ns=0)


def text(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(directory.glob("*.jsonl")))


def read(directory: Path) -> list[tuple[RunIdentity, StepBlock | Event]]:
    return list(read_lines(text(directory).splitlines(keepends=True)))


def recorded(directory: Path) -> list[int]:
    blocks = [item for _, item in read(directory) if isinstance(item, StepBlock)]
    return [step for block in blocks for step in block.step.tolist()]


def test_a_watched_run_is_a_file_of_its_own_that_tells_everything(tmp_path: Path) -> None:
    x = torch.tensor([3.0, -4.0], requires_grad=True)
    pipeline = ps.Pipeline([ps.Term("size", ps.l2, weight=0.5)], name="p")
    directory = tmp_path / "made" / "runs"
    sinks = [JSONL(directory)]
    tags = {"model": "tiny"}
    with ps.watch(pipeline, run="a/b", rank=2, world_size=4, attempt=1, tags=tags, sinks=sinks):
        for _ in range(3):
            pipeline(x, base=torch.tensor(1.5)).loss.backward()
    (file,) = directory.iterdir()
    assert file.name.startswith("a%2Fb.rank2.")
    assert file.name.endswith(".000000.jsonl")
    items = read(directory)
    identity = items[0][0]
    assert (identity.run_id, identity.rank, identity.world_size) == ("a/b", 2, 4)
    assert (identity.attempt, identity.tags) == (1, {"model": "tiny"})
    events = [item for _, item in items if isinstance(item, Event)]
    assert (events[0].name, events[-1].name) == (names.RUN_START, names.RUN_END)
    assert events[-1].attributes[names.STATUS] == "finished"
    # The drain that sends the start may already find some of them.
    blocks = [item for _, item in items if isinstance(item, StepBlock)]
    assert [seq for block in blocks for seq in block.seq.tolist()] == [0, 1, 2]
    assert [value for block in blocks for value in block.value.tolist()] == [[25.0]] * 3
    assert [norm for block in blocks for norm in block.gradient_norm.tolist()] == [[10.0]] * 3
    assert [base for block in blocks for base in block.base.tolist()] == [1.5] * 3


def test_files_go_beside_the_events_that_are_sent(tmp_path: Path) -> None:
    pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
    run = ps.watch(pipeline, sinks=[OTLP("http://127.0.0.1:9"), JSONL(tmp_path)])
    pipeline(torch.ones(2, requires_grad=True)).loss.backward()
    run.close()
    assert recorded(tmp_path) == [0]


def test_a_file_that_is_full_is_followed_by_another_and_the_oldest_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = JSONL(tmp_path, file_bytes=3000, max_bytes=10_000).open(SOURCE)
    for i in range(60):
        writer.send([steps(i)], [])
    writer.close(0)
    files = sorted(tmp_path.iterdir())
    assert files[0].name != "r.rank0.i.000000.jsonl"
    assert sum(file.stat().st_size for file in files) <= 10_000
    kept = recorded(tmp_path)
    assert kept == list(range(kept[0], 60))
    assert "r.rank0.i.000000.jsonl is deleted: max_bytes is reached" in caplog.text


def test_when_the_disk_is_full_no_half_line_stays(tmp_path: Path) -> None:
    writer = JSONL(tmp_path).open(SOURCE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):  # noqa: PT012  # how many fit is not ours
            for i in range(100):
                writer.send([steps(i)], [])
                written = i + 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 10 < written < 100
    assert recorded(tmp_path) == list(range(written))
    writer.send([steps(1000)], [])
    writer.close(0)
    assert recorded(tmp_path) == [*range(written), 1000]


def test_a_directory_that_cannot_be_made_costs_telemetry_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
    with ps.watch(pipeline, sinks=[JSONL(tmp_path / "file" / "runs")]) as run:
        pipeline(torch.ones(2, requires_grad=True)).loss.backward()
        run.flush()
        assert run.dropped_steps == 1
    assert "JSONL failed, what it cannot take is lost" in caplog.text


@pytest.mark.parametrize("argument", ["file_bytes", "max_bytes"])
def test_a_size_that_makes_no_sense_is_named(tmp_path: Path, argument: str) -> None:
    sink = JSONL(tmp_path, **{argument: 0})
    with pytest.raises(ValueError, match=f"{argument} must be positive, got 0"):
        ps.watch(ps.Pipeline([ps.Term("size", ps.l2)]), sinks=[sink])


def test_kill_9_leaves_every_drained_step(tmp_path: Path) -> None:
    with killed(f"sinks=[ps.telemetry.JSONL({str(tmp_path)!r})]"):
        pass
    kept = recorded(tmp_path)
    assert len(kept) >= 200
    assert kept == list(range(len(kept)))


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    source = f"""
import os, sys, torch, penaltyscope as ps
pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
x = torch.ones(2, requires_grad=True)
run = ps.watch(pipeline, sinks=[ps.telemetry.JSONL({str(tmp_path)!r})])
pipeline(x).loss.backward()
run.flush()
child = os.fork()
pipeline(x).loss.backward()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60, env=environment)
    assert recorded(tmp_path) == [0, 1]
    events = [json.loads(line)["event"] for line in text(tmp_path).splitlines()]
    assert events.count(names.RUN_END) == 1
