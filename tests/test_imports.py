"""What a process loads: each part runs where only its own extra is installed."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

import penaltyscope


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("penaltyscope_events", ("torch", "opentelemetry", "google")),
        ("penaltyscope.client", ("torch", "numpy", "opentelemetry", "penaltyscope_events")),
        ("penaltyscope.telemetry", ("opentelemetry.sdk", "google", "fastapi", "sklearn")),
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


def test_every_public_name_is_found_when_it_is_asked_for_and_others_are_not() -> None:
    source = "import sys, penaltyscope; print(penaltyscope.__all__); print(dir(penaltyscope))"
    done = subprocess.run(
        [sys.executable, "-c", source + "; assert 'torch' not in sys.modules"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    public, known = map(ast.literal_eval, done.stdout.splitlines())

    assert public == penaltyscope.__all__
    assert {*public, "penalties", "telemetry"} <= {*known}
    assert all(getattr(penaltyscope, name) is not None for name in known)
    with pytest.raises(AttributeError, match="'penaltyscope' has no attribute 'l3'"):
        _ = penaltyscope.l3  # type: ignore[attr-defined]  # type checkers know it, too


def test_what_type_checkers_see_is_what_is_there() -> None:
    tree = ast.parse(inspect.getsource(penaltyscope))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert sorted(seen) == sorted(penaltyscope.__all__)
    for name, module in seen.items():
        assert module is not None
        assert getattr(penaltyscope, name) is getattr(importlib.import_module(module), name)
