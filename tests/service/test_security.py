import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from penaltyscope_service.reference import create_reference_router
from penaltyscope_service.security import SecurityHeaders
from tests.service.client import Client


@pytest.fixture
def client() -> Iterator[Client]:
    app = FastAPI(docs_url=None)
    app.include_router(create_reference_router("Title"))

    @app.get("/plain")
    def plain() -> Response:
        return PlainTextResponse("text", headers={"x-frame-options": "SAMEORIGIN"})

    with Client(SecurityHeaders(app)) as client:
        yield client


@pytest.mark.parametrize("path", ["/plain", "/not-there"])
def test_every_response_carries_the_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_policy_names_no_other_host_and_lets_no_text_become_code(client: Client) -> None:
    policy = client.get("/plain").headers["content-security-policy"]

    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    allowed = {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}
    assert {source for sources in directives.values() for source in sources.split()} <= allowed
    assert "'unsafe-inline'" not in directives["script-src"]


def test_a_header_that_the_response_brings_is_left_alone(client: Client) -> None:
    assert client.get("/plain").headers["x-frame-options"] == "SAMEORIGIN"


def test_the_reference_loads_from_here_only_and_lets_in_its_one_script_by_hash(
    client: Client,
) -> None:
    response = client.get("/docs")

    loaded = re.findall(r'(?:src|href)="(.+?)"', response.text)
    assert loaded
    assert all(url.startswith("assets/") for url in loaded)
    policy = response.headers["content-security-policy"]
    assert policy.count("'sha256-") == 1
    assert "script-src 'self' 'sha256-" in policy
