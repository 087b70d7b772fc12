"""The charts: what is drawn, what is marked, and how one looks closer."""

from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import expect

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
    alarm = page.locator("#run-list a[aria-current] .alarm")
    expect(alarm).to_have_text("non-finite since step 110: distill, gradient NaN, rank 0")
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


def test_steps_that_arrive_during_a_drag_are_drawn_after_it(visit: Visit) -> None:
    # Ended: nothing else will make the page draw again.
    send(visit.url, even(5), run="dragged", events=[end("finished")])
    page = visit.open(run="dragged")
    wait_for_steps(page, 5)

    page.locator("#chart-value .nsewdrag").hover()
    page.mouse.down()
    send(visit.url, even(2, first=5), run="dragged")
    expect(page.locator("#terms-note")).to_have_text("at step 60")
    during = read_chart(page, "value").steps[0]
    page.mouse.up()
    wait_for_steps(page, 7)

    assert len(during) == 5


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
