"""The GPU's measurements where there is none: the same code, and its counts are right here too."""

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.bandwidth import bandwidth
from benchmarks.transformer import Transformer

AT = gpu.scale("cpu")


def test_a_watched_transformer_step_reads_nothing_and_is_told() -> None:
    rows = gpu.synchronisations(AT)
    assert [row.measured for row in rows] == [0, 0, 1.0]
    assert all(row.met for row in rows)


def test_a_step_that_reads_a_number_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Transformer.step
    monkeypatch.setattr(Transformer, "step", lambda *args: step(*args).item())
    _, read, _ = gpu.synchronisations(AT)
    assert (read.measured, read.met) == (AT.steps, False)


def test_every_repeated_step_is_told() -> None:
    (row,) = gpu.graph(AT)
    assert row.measured == 1.0


def test_bandwidth_and_watching_are_positive_numbers() -> None:
    rows = [*bandwidth(AT.tensors, AT.blocks, AT.device), *gpu.watching(AT)]
    assert all(math.isfinite(row.measured) and row.measured > 0 for row in rows)


def test_the_command_says_that_it_has_no_gpu_and_writes_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--json", str(path)])
    gpu.main()
    assert "No GPU is used" in capsys.readouterr().out
    assert json.loads(path.read_text())["device"] == "cpu"


def test_the_full_scale_has_inputs_of_at_least_256_megabytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    sizes = [math.prod(shape) * 4 for shape in gpu.scale("cuda").tensors]
    assert min(sizes) >= 256e6
