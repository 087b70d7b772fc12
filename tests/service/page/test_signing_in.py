"""The page of a service with tokens, in a browser that is asked for one."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from penaltyscope_service.access import add_token
from tests.end_to_end.real_parts import service
from tests.service.blocks import make_block, make_request
from tests.service.page.visit import WIDE, Visit, wait_for_steps

pytestmark = pytest.mark.real


def test_the_token_is_the_password_and_lets_the_whole_page_work(
    browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.toml"
    both = add_token(file, "both", ["ingest", "read"])
    with service(tmp_path / "data", flags=("--tokens-file", str(file))) as part:
        httpx.post(
            f"{part.url}/v1/logs",
            content=make_request(make_block(steps=3), run="r"),
            headers={
                "content-type": "application/x-protobuf",
                "authorization": f"Bearer {both}",
            },
        ).raise_for_status()
        known = {"username": "anyone", "password": both}
        with browser.new_context(viewport=WIDE, http_credentials=known) as context:  # type: ignore[arg-type]
            visit = Visit(context.new_page(), part.url)
            page = visit.open(run="r")
            wait_for_steps(page, 3)
            expect(page.locator("figure svg").first).to_be_attached()
            assert visit.complaints == []

        with browser.new_context(viewport=WIDE) as context:
            answer = context.new_page().request.get(part.url)
            assert answer.status == 401
