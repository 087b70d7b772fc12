"""Every measurement runs; what it measures at these sizes means nothing."""

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import engines
from benchmarks.__main__ import SUBJECTS
from benchmarks.effort import QUICK
from benchmarks.terms import ELEMENTWISE, TERMS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("subject", [subject for subject in SUBJECTS if subject != "peers"])
def test_a_subject_returns_rows_of_different_names(subject: str) -> None:
    rows = importlib.import_module(f"benchmarks.{subject}").rows(QUICK)
    assert rows
    assert len({row.name for row in rows}) == len(rows)
    assert all(math.isfinite(row.measured) for row in rows)


def test_terms_of_a_user_are_split_and_built_in_ones_are_fused() -> None:
    step = engines.Step(TERMS, (4, 16))
    # Split, norms come through a tap of the backward pass.
    assert step.split().statistics.tap is not None
    assert step.fused().statistics.tap is None


def test_what_is_written_by_hand_finds_the_numbers_of_the_split_engine() -> None:
    step, count = engines.Step(ELEMENTWISE, (4, 16)), len(ELEMENTWISE)
    by_hand = step.by_hand()
    result = step.split()
    ranges, values, norms = by_hand[:4], by_hand[4 : 4 + count], by_hand[4 + count :]
    weighted = (result.weights * result.gradient_norms).tolist()
    assert ranges == result.statistics.row[count : count + 4].tolist()
    assert values == result.values.tolist()
    assert norms == pytest.approx([*weighted, result.total_gradient_norm.item()], rel=1e-6)


@pytest.mark.parametrize("subject", ["orthogonality", "peers"])
def test_the_command_prints_a_table_and_writes_the_rows(subject: str, tmp_path: Path) -> None:
    missing = [p for p in ("lightning", "tensorboard", "wandb") if not importlib.util.find_spec(p)]
    if subject == "peers" and missing:
        assert os.environ.get("PENALTYSCOPE_REQUIRE_REAL") != "1", f"{missing} must be installed"
        pytest.skip(f"not installed: {', '.join(missing)}")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", subject]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "rows.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert rows
    assert all(row["name"] in done.stdout for row in rows)
