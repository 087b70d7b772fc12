"""Whole training scripts: how they end, and what they fork."""

import subprocess
import sys
import textwrap

import pytest

from penaltyscope_events import names
from tests.lib.telemetry.receiver import receiver


def script(body: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    source = f"""
import os, sys, torch, penaltyscope as ps
pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
x = torch.ones(2, requires_grad=True)
run = ps.watch(pipeline, run="script", endpoint={endpoint!r})
pipeline(x).loss.backward()
{textwrap.dedent(body)}
"""
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ("", 0, "finished"),
        ("raise RuntimeError('out of luck')", 1, "failed"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_a_script_that_never_closes_is_closed_at_exit(body: str, code: int, status: str) -> None:
    with receiver() as there:
        done = script(body, there.url)
        assert done.returncode in (code, -2), done.stderr
        assert there.steps() == [0]
        end = there.requests[-1].resource_logs[0].scope_logs[-1].log_records[-1]
        assert end.event_name == names.RUN_END
        assert {a.key: a.value.string_value for a in end.attributes}[names.STATUS] == status


def test_a_forked_child_is_silent() -> None:
    body = """
    run.flush()
    child = os.fork()
    if child == 0:
        pipeline(x).loss.backward()
        sys.exit(0)  # runs what is registered for the exit, as a worker that ends by itself does
    os.waitpid(child, 0)
    pipeline(x).loss.backward()
    """
    with receiver() as there:
        done = script(body, there.url)
        assert done.returncode == 0, done.stderr
        assert there.steps() == [0, 1]
        assert there.events().count(names.RUN_END) == 1
