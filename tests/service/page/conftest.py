from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.end_to_end.real_parts import service
from tests.service.page.visit import WIDE, Visit, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: while it is there an event loop runs, which asyncio does not share."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for all tests of a module: each has runs of its own."""
    with service(tmp_path_factory.mktemp("page") / "data") as part:
        yield part.url


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for the tests of a module, so that the charting library's megabytes are fetched once."""
    with browser.new_context(viewport=WIDE) as context:
        yield context


@pytest.fixture
def visit(context: BrowserContext, url: str) -> Iterator[Visit]:
    """Fails the test in the end if the browser had anything to complain of."""
    visit = Visit(context.new_page(), url)
    yield visit
    visit.page.close()
    assert visit.complaints == []
