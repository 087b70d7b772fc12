"""A training process dies while nobody listens; later its steps are in the service, once."""

import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.real_parts import Part, service, wait_for
from tests.killed import killed


def counted(there: Part, family: str) -> float:
    found = re.search(
        rf'^{family}\{{[^}}]*run="r"[^}}]*\}} (\S+)$', there.get("/metrics").text, re.M
    )
    return float(found[1]) if found else -1.0


def replayed(directory: Path, there: Part) -> str:
    program = Path(sys.executable).with_name("penaltyscope")
    command = [str(program), "replay", str(directory), "--endpoint", there.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_what_a_killed_job_has_spooled_is_counted_once(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    arguments = f'endpoint="http://127.0.0.1:9", spool={str(directory)!r}'
    with killed(arguments, steps=500, flush_seconds=0.01):
        pass
    copies = {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    with service(tmp_path / "data") as there:
        said = replayed(directory, there)
        sent = int(said.split()[0])
        assert sent >= 500
        assert list(directory.iterdir()) == []
        for path, content in copies.items():
            (directory / path).parent.mkdir(exist_ok=True)
            (directory / path).write_bytes(content)
        assert replayed(directory, there) == said, "the same again, as after a crash in between"
        steps = "penaltyscope_pipeline_steps_total"
        wait_for("the steps", lambda: counted(there, steps) == sent)
        assert counted(there, "penaltyscope_ingest_missing_records_total") in (0, -1)
