"""What a process loads: each part runs where only its own extra is installed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("penaltyscope_events", ("torch", "opentelemetry", "google")),
        ("penaltyscope", ("opentelemetry.sdk", "google", "fastapi", "sklearn")),
        ("penaltyscope_service.app", ("torch", "opentelemetry.sdk", "penaltyscope")),
        ("penaltyscope_service.cli", ("torch", "opentelemetry.sdk", "penaltyscope")),
    ],
)
def test_importing_a_package_loads_nothing_of_the_others(
    module: str, absent: tuple[str, ...]
) -> None:
    source = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & set(absent)
