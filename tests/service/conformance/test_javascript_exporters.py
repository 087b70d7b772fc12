"""OpenTelemetry for JavaScript as a client: JSON and protobuf over HTTP, from Node.js."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.end_to_end.real_parts import missing, require
from tests.service.conformance.pressure import room_after_a_refusal
from tests.service.process import Service

pytestmark = [pytest.mark.conformance, pytest.mark.real]

SCRIPT: Final = Path(__file__).parent / "javascript" / "export.js"
SUCCESS: Final = 0
"""OpenTelemetry's ``ExportResultCode.SUCCESS``."""


def export(service: Service, encoding: str, compression: str, run: str, steps: int) -> Any:  # noqa: ANN401
    """What the SDK said: the result of each request, and what it logged."""
    if not (SCRIPT.parent / "node_modules").is_dir():
        missing("OpenTelemetry for JavaScript is not installed (tests/install_real_parts.sh does)")
    command = [require("node"), str(SCRIPT), service.url, encoding, compression, run, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def known(service: Service, run: str) -> dict[str, Any]:
    runs = httpx.get(f"{service.url}/api/runs").json()["runs"]
    found: dict[str, Any] = next(r for r in runs if r["run"] == run)
    return found


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_steps_are_kept_with_what_is_not_finite(
    service: Service, encoding: str, compression: str
) -> None:
    run = f"javascript {encoding} {compression}"

    said = export(service, encoding, compression, run, steps=5)

    assert said == {"results": [SUCCESS], "told": []}
    kept = known(service, run)
    assert (kept["steps"], kept["nonfinite_steps"]) == (5, 1)
    assert kept["first_nonfinite"]["kind"] == "nan"


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_one_that_is_told_to_wait_sends_again_and_the_steps_count_once(
    service: Service, encoding: str
) -> None:
    run = f"javascript {encoding} again"

    with room_after_a_refusal(service):
        said = export(service, encoding, "none", run, steps=5)

    assert said["results"] == [SUCCESS]
    assert known(service, run)["steps"] == 5
