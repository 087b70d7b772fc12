"""Names that nobody expects, sizes of screens, colours."""

from typing import Literal

import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.service.page.visit import MARKS, NARROW, WIDE, Visit, even, read_chart, send, spoil

pytestmark = pytest.mark.real

IMAGE = "<img src=x onerror=\"document.title='owned'\">"


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
