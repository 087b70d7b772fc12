"""The page while a run, or the service, comes, goes on and ends."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Request, expect

from tests.end_to_end.real_parts import service
from tests.service.page.visit import WIDE, Visit, end, even, read_chart, send, spoil, wait_for_steps

pytestmark = pytest.mark.real


def test_before_the_first_run_it_says_how_to_send_one(browser: Browser, tmp_path: Path) -> None:
    with service(tmp_path / "data") as part, browser.new_context(viewport=WIDE) as context:
        page = Visit(context.new_page(), part.url).open()

        notice = page.locator("#notice")
        expect(notice).to_contain_text("make demo")
        expect(notice).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={part.url}")

        send(part.url, even(2), run="the first")
        wait_for_steps(page, 2)
        expect(notice).to_be_hidden()


def test_the_table_holds_every_terms_last_numbers(visit: Visit) -> None:
    block = spoil(even(3), "value", 2, 1, 0.25)
    block = replace(block, weight=np.full((3, 2), 0.5), contribution=block.value * 0.5)
    send(visit.url, block, run="table")

    page = visit.open(run="table")

    row = page.locator("#term-rows tr").filter(has_text="distill")
    expect(row.locator("td").nth(0)).to_have_text("0.2500")
    expect(row.locator("td").nth(1)).to_have_text("0.5")
    expect(row.locator("td").nth(2)).to_have_text("0.1250")
    expect(row.locator("td").nth(5)).to_have_text("0")


def test_new_steps_arrive_without_a_reload_and_leave_what_was_chosen(visit: Visit) -> None:
    send(visit.url, even(5), run="live")
    page = visit.open(run="live")
    wait_for_steps(page, 5)
    page.evaluate("window.still = 'here'")
    page.locator("#legend button").filter(has_text="distill").click()

    send(visit.url, spoil(even(6, first=5), "value", 2, 0), run="live")
    wait_for_steps(page, 11)

    chart = read_chart(page, "value")
    assert page.evaluate("window.still") == "here"
    assert chart.visible[:2] == [True, False]
    assert chart.marked == [70]
    expect(page.locator("#banner-title")).to_have_text("sparsity became NaN at step 70")


def test_an_ended_run_is_fetched_once(visit: Visit) -> None:
    send(visit.url, even(5), run="ended", events=[end("failed")])
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/api/runs" in request.url:
            asked.append(request.url.partition("/api/runs")[2].partition("?")[0])

    visit.page.on("request", note)
    page = visit.open(run="ended")
    read_chart(page, "value")
    for _ in range(3):
        page.wait_for_event("requestfinished", lambda request: request.url.endswith("/api/runs"))

    assert asked.count("/ended/series") == 1
    assert asked.count("") >= 3


def test_the_service_going_away_and_coming_back_is_survived(
    browser: Browser, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with browser.new_context(viewport=WIDE) as context:
        with service(data) as part:
            visit = Visit(context.new_page(), part.url)
            send(part.url, even(3), run="survivor")
            page = visit.open()
            wait_for_steps(page, 3)
            assert visit.complaints == []
            part.kill()
            expect(page.locator("#connection")).to_contain_text("service unreachable since")
            expect(page.locator("#run-name")).to_have_text("survivor")

        port = int(part.url.rpartition(":")[2])
        with service(data, port=port) as part:
            send(part.url, even(2, first=3), run="survivor")
            wait_for_steps(page, 5)
            expect(page.locator("#connection")).to_have_text("live")
