import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI

from penaltyscope_service.assets import create_assets_router
from tests.service.client import Client


@pytest.fixture
def client() -> Iterator[Client]:
    app = FastAPI()
    app.include_router(create_assets_router())
    with Client(app) as client:
        yield client


class References(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img"):
            self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_is_html_and_asked_for_each_time(client: Client) -> None:
    response = client.get("/")

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"


def test_everything_that_the_page_and_its_modules_load_is_served(client: Client) -> None:
    references = References()
    references.feed(client.get("/").text)
    assert references.found
    waiting = list(references.found)
    seen: set[str] = set()
    while waiting:
        url = waiting.pop()
        if url in seen:
            continue
        seen.add(url)
        response = client.get(f"/{url}")
        assert response.status_code == 200, url
        if url.endswith(".js") and "plotly" not in url:
            waiting += [f"assets/{name}" for name in re.findall(r'from "\./(.+?)"', response.text)]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("plotly.min.js", "text/javascript; charset=utf-8"),
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
    ],
)
def test_files_of_other_packages_are_kept_for_a_week(
    client: Client, name: str, content_type: str
) -> None:
    response = client.get(f"/assets/{name}")

    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    assert response.headers["cache-control"] == "public, max-age=604800"


@pytest.mark.parametrize("path", ["/", "/assets/plotly.min.js"])
def test_what_the_browser_has_is_not_sent_again(client: Client, path: str) -> None:
    etag = client.get(path).headers["etag"]

    again = client.get(path, if_none_match=etag)
    other = client.get(path, if_none_match='"other"')

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    assert other.status_code == 200


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "index.html", "..%2Fapp.py", "..%2F..%2Fpyproject.toml", "%2Fetc%2Fpasswd", "."],
)
def test_nothing_else_is_served(client: Client, name: str) -> None:
    assert client.get(f"/assets/{name}").status_code == 404
