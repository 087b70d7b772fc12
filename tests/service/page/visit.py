"""A browser on the live page, and what a job sends to the service behind it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import numpy as np
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

from penaltyscope_events import (
    Event,
    RunIdentity,
    StepBlock,
    complete_flags,
    encode_events,
    encode_request,
    encode_steps,
    names,
)
from tests.end_to_end.real_parts import require
from tests.service.blocks import make_block

FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE: Final[ViewportSize] = {"width": 1600, "height": 1000}
NARROW: Final[ViewportSize] = {"width": 390, "height": 844}
MARKS: Final = 2
"""Traces that mark non-finite steps, after those of the lines."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; where there is none the test is skipped, or fails if it must."""
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass(frozen=True)
class Visit:
    """The page in a browser, and all that the browser had to complain of."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self._note(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _note(self, message: ConsoleMessage) -> None:
        # A breach of the content security policy is an error on the console, too.
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, **selection: str | int) -> Page:
        """Opens the page at what is selected."""
        self.page.goto(f"{self.url}/#{urlencode(selection)}")
        return self.page


def send(
    url: str,
    *blocks: StepBlock,
    run: str,
    rank: int = 0,
    tags: Mapping[str, str] | None = None,
    events: Sequence[Event] = (),
) -> None:
    """Sends steps, then events, as one process of a job does; returns when they are kept."""
    identity = RunIdentity(run_id=run, rank=rank, world_size=rank + 1, tags=tags or {})
    body = encode_request(identity, [*map(encode_steps, blocks), encode_events(events)])
    headers = {"content-type": "application/x-protobuf"}
    answer = httpx.post(f"{url}/v1/logs", content=body, headers=headers).raise_for_status()
    assert answer.content == b"", "some records were refused"


def end(status: str) -> Event:
    """The end of a run."""
    return Event(name=names.RUN_END, time_ns=1, attributes={names.STATUS: status})


def even(
    steps: int,
    terms: Sequence[str] = ("sparsity", "distill"),
    *,
    first: int = 0,
    pipeline: str = "distillation",
) -> StepBlock:
    """Numbers between 1 and 2, so that no chart has a reason to be logarithmic."""
    block = make_block(steps, terms, first=first, pipeline=pipeline)
    value = block.value + 1
    return replace(block, value=value, contribution=value, gradient_norm=block.gradient_norm + 1)


def spoil(
    block: StepBlock, column: str, rows: int | slice, term: int, number: float = np.nan
) -> StepBlock:
    """The block with another value or gradient norm of a term at some evaluations."""
    matrix = getattr(block, column).copy()
    matrix[rows, term] = number
    columns: dict[str, Any] = {column: matrix}
    if column == "value":
        columns["contribution"] = matrix * block.weight
    spoilt = replace(block, **columns)
    return replace(spoilt, flags=complete_flags(spoilt.flags, spoilt.value, spoilt.gradient_norm))


@dataclass(frozen=True)
class Chart:
    """What the browser has drawn."""

    names: list[str]
    steps: list[list[int | None]]
    heights: list[list[float | None]]
    visible: list[bool]
    range: list[float]
    annotations: list[str]

    @property
    def marked(self) -> list[int | None]:
        """The steps that are marked as non-finite."""
        return self.steps[-1]


_READ: Final = """(id) => {
  const { data, layout } = document.getElementById(id);
  return {
    names: data.map((trace) => trace.name),
    steps: data.map((trace) => [...trace.x]),
    heights: data.map((trace) => [...trace.y]),
    visible: data.map((trace) => (trace.visible ?? true) === true),
    range: [...layout.xaxis.range],
    annotations: layout.annotations.map(({ x, text }) => `${x} at ${text}`),
  };
}"""


def read_chart(page: Page, quantity: str) -> Chart:
    """Waits until the charts are drawn, the last one too, and reads one of them."""
    page.wait_for_function("() => document.getElementById('chart-loss')?.data !== undefined")
    return Chart(**page.evaluate(_READ, f"chart-{quantity}"))


def wait_for_steps(page: Page, steps: int) -> None:
    """Waits until the first line of every chart has so many points."""
    page.wait_for_function(
        """(steps) => {
          const plots = [...document.querySelectorAll(".plot")];
          return plots.length === 4 && plots.every((plot) => plot.data?.[0].x.length === steps);
        }""",
        arg=steps,
    )
