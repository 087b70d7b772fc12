"""The live page in Chromium, against a service that runs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, ViewportSize, expect

from tests.end_to_end.real_parts import service
from tests.service.page_fixture import (
    MARKS,
    Visit,
    chromium,
    end,
    even,
    read_chart,
    send,
    spoil,
    wait_for_steps,
)

pytestmark = pytest.mark.real

WIDE: ViewportSize = {"width": 1600, "height": 1000}
NARROW: ViewportSize = {"width": 390, "height": 844}
IMAGE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for all tests: each has runs of its own."""
    with service(tmp_path_factory.mktemp("page") / "data") as part:
        yield part.url


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One context for all tests, so that the charting library's megabytes are fetched once."""
    with browser.new_context(viewport=WIDE) as context:
        yield context


@pytest.fixture
def visit(context: BrowserContext, url: str) -> Iterator[Visit]:
    """Fails the test in the end if the browser had anything to complain of."""
    visit = Visit(context.new_page(), url)
    yield visit
    visit.page.close()
    assert visit.complaints == []


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


def test_without_a_selection_the_newest_run_is_shown_and_addressed(visit: Visit) -> None:
    send(visit.url, even(3), run="newest of all")

    page = visit.open()

    expect(page.locator("#run-name")).to_have_text("newest of all")
    assert page.url.endswith("#run=newest+of+all")


def test_a_selected_run_has_a_line_for_every_term_in_every_chart(visit: Visit) -> None:
    block = even(7, ("kl", "l1", "entropy"))
    send(visit.url, block, run="drawn")
    send(visit.url, even(4), run="drawn-next")
    page = visit.open(run="drawn-next")
    read_chart(page, "value")

    page.locator("#run-list a").filter(has_text="drawn").last.click()
    wait_for_steps(page, 7)

    for quantity in ("value", "contribution", "gradient_norm"):
        chart = read_chart(page, quantity)
        extra = ["total penalty"] if quantity == "gradient_norm" else []
        assert chart.names[:-MARKS] == ["kl", "l1", "entropy", *extra]
        drawn = np.array(chart.heights[:3], np.float64)
        assert drawn == pytest.approx(getattr(block, quantity).T)
        assert chart.steps[:3] == [block.step.tolist()] * 3
    loss = read_chart(page, "loss")
    assert loss.names[:-MARKS] == ["base (task loss)", "total penalty"]
    assert loss.heights[0] == pytest.approx(block.base.tolist())
    assert loss.heights[1] == pytest.approx(block.total.tolist())


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


def test_non_finite_steps_are_marked_where_they_are(visit: Visit) -> None:
    block = spoil(even(20), "gradient_norm", 11, 1)
    block = spoil(block, "value", 14, 0, np.inf)
    send(visit.url, block, run="bad")

    page = visit.open(run="bad")

    for quantity in ("value", "contribution", "gradient_norm", "loss"):
        chart = read_chart(page, quantity)
        assert chart.marked == [110, 140]
        assert chart.steps[-2] == [110, 110, None, 140, 140, None]
        assert chart.annotations == ["110 at 110: distill gradient NaN"]
    assert read_chart(page, "gradient_norm").heights[1][11] is None
    assert read_chart(page, "value").heights[0][14] is None
    assert "non-finite since step 110: distill, gradient NaN, rank 0" in run_link(page, "bad")
    expect(page.locator("#banner-title")).to_have_text("distill has a NaN gradient at step 110")
    expect(page.locator("#banner-hint")).to_contain_text("the backward pass made it")
    expect(page.locator("#term-rows tr.first th")).to_have_text("distill")
    rows = page.locator("#finding-rows tr")
    expect(rows).to_have_text(["110distill gradient NaN", "140sparsity value Inf"])


def test_a_non_finite_task_loss_is_called_by_its_name(visit: Visit) -> None:
    block = even(4)
    send(visit.url, replace(block, base=np.array([1, 1, np.inf, np.nan])), run="bad-base")

    page = visit.open(run="bad-base")

    expect(page.locator("#banner-title")).to_have_text("The task loss became infinite at step 20")
    assert read_chart(page, "loss").marked == [20, 30]


def test_marks_go_on_where_the_list_of_findings_ends(visit: Visit) -> None:
    block = even(1500)
    for term in (0, 1):
        block = spoil(block, "value", slice(100, None), term)
    send(visit.url, block, run="bad-for-good")

    page = visit.open(run="bad-for-good")

    marked = [step for step in read_chart(page, "value").marked if step is not None]
    gaps = np.diff(marked)
    assert marked[0] == 1000
    assert marked[-1] >= 14_900
    assert gaps.max() <= 100, "a gap of more than a few pixels would look finite"
    expect(page.locator("#findings-note")).to_have_text("1,400 evaluations non-finite on rank 0")


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


def test_a_zoom_holds_for_all_charts_and_fetches_the_steps_between(visit: Visit) -> None:
    send(visit.url, even(3000), run="zoomed")
    page = visit.open(run="zoomed")
    whole = read_chart(page, "value")
    plot = page.locator("#chart-value .nsewdrag").bounding_box()
    assert plot is not None
    middle = plot["y"] + plot["height"] / 2

    page.mouse.move(plot["x"] + plot["width"] * 0.50, middle)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] * 0.54, middle, steps=4)
    page.mouse.up()
    # Of these 120 steps the whole picture had room for a fraction only.
    page.wait_for_function("() => document.getElementById('chart-loss').data[0].x.length < 150")

    for quantity in ("value", "contribution", "gradient_norm", "loss"):
        chart = read_chart(page, quantity)
        first, last = chart.range
        assert 14_500 < first < last < 16_500
        inside = [step for step in chart.steps[0] if step is not None]
        assert np.diff(inside).tolist() == [10] * (len(inside) - 1)
        assert first <= inside[0] < first + 10
        assert last - 10 < inside[-1] <= last

    page.get_by_role("button", name="Show all steps").click()
    page.wait_for_function("() => document.getElementById('chart-loss').data[0].x.length > 150")
    assert read_chart(page, "gradient_norm").range == whole.range


def test_the_steps_around_the_first_finding_are_one_click_away(visit: Visit) -> None:
    block = replace(even(1000), step=np.arange(1000))
    send(visit.url, spoil(block, "value", 700, 0), run="around")
    page = visit.open(run="around")
    read_chart(page, "value")

    page.get_by_role("button", name="Show the steps around it").click()
    wait_for_steps(page, 61)

    assert read_chart(page, "value").range == [650, 710]


def test_a_log_scale_keeps_zeros_and_negative_numbers(visit: Visit) -> None:
    block = even(30)
    block = spoil(block, "value", slice(0, 10), 0, -1e6)
    block = spoil(block, "value", slice(10, 20), 0, 0.0)
    send(visit.url, block, run="signed")
    page = visit.open(run="signed")
    automatic = read_chart(page, "value").heights[0]

    scales = page.get_by_role("group", name="Scale of value")
    scales.get_by_role("button", name="linear").click()
    linear = read_chart(page, "value").heights[0]

    assert linear[0] == -1e6
    assert linear[15] == automatic[15] == 0
    assert automatic[0] is not None
    assert -20 < automatic[0] < -1, "a million is some decades, not a million, away"
    expect(scales.get_by_role("button", name="linear")).to_have_attribute("aria-pressed", "true")


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


def test_hostile_names_are_shown_as_text_and_run_nothing(visit: Visit) -> None:
    terms = (IMAGE, "__proto__", "NaN", "total", "%{x} &lt;b&gt;", "🔥\u202eevil", "y" * 256)
    block = spoil(even(9, terms, pipeline=IMAGE), "gradient_norm", 4, 0)
    tags = {"__proto__": IMAGE, "a": "<script>document.title='owned'</script>"}
    send(visit.url, block, run=IMAGE, tags=tags)

    page = visit.open(run=IMAGE)

    chart = read_chart(page, "value")
    assert len(chart.names) == len(terms) + MARKS
    assert chart.annotations[0].startswith("40 at 40: &lt;img src=x")
    assert page.locator("#term-rows th").all_inner_texts() == list(terms)
    assert page.locator("#run-tags li").count() == len(tags)
    page.locator("#chart-value .nsewdrag").hover()
    # Plotly's reading of an entity must bring back the name, not make it markup.
    hover = page.locator("#chart-value .hoverlayer")
    expect(hover).to_contain_text("<img src=x onerro")
    expect(hover).to_contain_text("%{x} &lt;b&gt;")
    assert page.locator("main img, .plot image, main script").count() == 0
    assert page.title().endswith(f"{IMAGE} · Penaltyscope")


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


def test_before_the_first_run_it_says_how_to_send_one(browser: Browser, tmp_path: Path) -> None:
    with service(tmp_path / "data") as part, browser.new_context(viewport=WIDE) as context:
        page = Visit(context.new_page(), part.url).open()

        notice = page.locator("#notice")
        expect(notice).to_contain_text("make demo")
        expect(notice).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={part.url}")

        send(part.url, even(2), run="the first")
        wait_for_steps(page, 2)
        expect(notice).to_be_hidden()


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


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_nothing_scrolls_sideways(browser: Browser, url: str, size: ViewportSize) -> None:
    terms = ("x" * 256, "distill", IMAGE)
    block = spoil(even(9, terms, pipeline="z" * 200), "gradient_norm", slice(4, None), 0)
    send(url, block, even(3), run="w" * 256, tags={"t" * 100: "u" * 200})
    with browser.new_context(viewport=size) as context:
        page = Visit(context.new_page(), url).open(run="w" * 256)
        read_chart(page, "value")

        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_their_ground(
    browser: Browser, url: str, scheme: Literal["light", "dark"]
) -> None:
    """WCAG 2.2: at least 4.5 for text (1.4.3), 3 for lines of a chart (1.4.11)."""
    with browser.new_context(color_scheme=scheme) as context:
        page = Visit(context.new_page(), url).open()
        colors = page.evaluate(
            """() => Object.fromEntries([...document.styleSheets[0].cssRules[0].style]
              .filter((name) => name.startsWith("--"))
              .map((name) => [name, getComputedStyle(document.documentElement)
                .getPropertyValue(name).trim()]))"""
        )

    for text in ("--text", "--muted", "--accent", "--bad", "--good", "--warn"):
        for ground in ("--ground", "--surface", "--raised"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for text in ("--text", "--muted", "--bad"):
        assert contrast(colors[text], colors["--bad-ground"]) >= 4.5, text
    for line in [name for name in colors if name.startswith("--line-")]:
        assert contrast(colors[line], colors["--surface"]) >= 3, line


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two ``#rrggbb`` colours, 1 to 21."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
