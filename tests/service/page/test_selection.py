"""The list of runs, and what is shown of which."""

import pytest
from playwright.sync_api import Page, expect

from tests.service.page.visit import (
    MARKS,
    Visit,
    end,
    even,
    read_chart,
    send,
    spoil,
    wait_for_steps,
)

pytestmark = pytest.mark.real


def run_link(page: Page, run: str) -> str:
    """The text of a run in the list."""
    return page.locator("#run-list a").filter(has_text=run).inner_text()


def test_runs_are_listed_newest_first_with_their_state(visit: Visit) -> None:
    send(visit.url, even(3), run="listed-older", events=[end("finished")])
    send(visit.url, even(5), run="listed-newer")

    page = visit.open(run="listed-older")

    listed = page.locator("#run-list .run-name")
    expect(listed.filter(has_text="listed-")).to_have_text(["listed-newer", "listed-older"])
    assert "finished" in run_link(page, "listed-older")
    assert "step 20" in run_link(page, "listed-older")
    assert "running" in run_link(page, "listed-newer")
    assert "steps/s" in run_link(page, "listed-newer")


def test_the_list_is_used_by_keyboard(visit: Visit) -> None:
    send(visit.url, even(3), run="keyboard-one")
    send(visit.url, even(4), run="keyboard-two")
    page = visit.open(run="keyboard-two")
    wait_for_steps(page, 4)
    page.locator("#run-list a").filter(has_text="keyboard-two").focus()

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for_steps(page, 3)

    focused = page.locator("#run-list a:focus")
    expect(focused).to_contain_text("keyboard-one")
    expect(focused).to_have_attribute("aria-current", "true")


def test_without_a_selection_the_newest_run_is_shown_and_addressed(visit: Visit) -> None:
    send(visit.url, even(3), run="newest of all")

    page = visit.open()

    expect(page.locator("#run-name")).to_have_text("newest of all")
    assert page.url.endswith("#run=newest+of+all")


def test_a_deep_link_selects_run_pipeline_and_rank(visit: Visit) -> None:
    for rank in (0, 1):
        blocks = (even(3), even(4 + rank, ("l1",), pipeline="activation penalties"))
        send(visit.url, *blocks, run="deep/link?#&", rank=rank)

    page = visit.open(run="deep/link?#&", pipeline="activation penalties", rank=1)
    wait_for_steps(page, 5)

    expect(page.locator("#run-name")).to_have_text("deep/link?#&")
    expect(page.locator("#pipeline")).to_have_value("activation penalties")
    expect(page.locator("#rank")).to_have_value("1")
    assert read_chart(page, "value").names[:-MARKS] == ["l1"]

    page.locator("#rank").select_option("0")
    wait_for_steps(page, 4)
    assert page.url.endswith("&rank=0")
    page.go_back()
    wait_for_steps(page, 5)


def test_unless_asked_otherwise_the_rank_is_that_of_the_first_finding(visit: Visit) -> None:
    for rank in (0, 1, 2):
        block = even(3)
        send(visit.url, spoil(block, "value", 1, 0) if rank == 1 else block, run="r", rank=rank)

    page = visit.open(run="r")

    assert read_chart(page, "value").marked == [10]
    expect(page.locator("#rank")).to_have_value("1")


def test_an_unknown_run_is_said_to_be_unknown(visit: Visit) -> None:
    send(visit.url, even(1), run="known")

    page = visit.open(run="nowhere")

    expect(page.locator("#notice")).to_contain_text('Nothing is known here of a run "nowhere"')
    expect(page.locator("#selected")).to_be_hidden()
