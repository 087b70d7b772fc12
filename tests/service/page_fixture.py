"""A browser on the live page, and what a job sends to the service behind it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
import numpy as np
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

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
PROTOBUF: Final = {"content-type": "application/x-protobuf"}


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium; where there is none the test is skipped, or fails if it must."""
    program = require("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield chromium
        chromium.close()


@dataclass(frozen=True)
class Watched:
    """A page, and all that the browser had to complain of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _on_console(self, message: ConsoleMessage) -> None:
        # A broken content security policy is an error on the console, too.
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def send(
    url: str,
    *blocks: StepBlock,
    run: str,
    rank: int = 0,
    world_size: int = 1,
    tags: Mapping[str, str] | None = None,
    events: Sequence[Event] = (),
) -> None:
    """Sends steps, then events, as one process of a job does; returns when they are kept."""
    identity = RunIdentity(run_id=run, rank=rank, world_size=world_size, tags=tags or {})
    scopes = [*map(encode_steps, blocks), encode_events(events)]
    body = encode_request(identity, scopes)
    answer = httpx.post(f"{url}/v1/logs", content=body, headers=PROTOBUF).raise_for_status()
    assert answer.content == b"", "some records were refused"


def end(status: str) -> Event:
    """The end of a run."""
    return Event(name=names.RUN_END, time_ns=1, attributes={names.STATUS: status})


def spoil(
    block: StepBlock, column: str, row: int | slice, term: int, number: float = np.nan
) -> StepBlock:
    """The block with one term's value or gradient norm made non-finite at some evaluations."""
    matrix = getattr(block, column).copy()
    matrix[row, term] = number
    columns: dict[str, Any] = {column: matrix}
    if column == "value":
        columns["contribution"] = matrix * block.weight
    spoilt = replace(block, **columns)
    return replace(spoilt, flags=complete_flags(spoilt.flags, spoilt.value, spoilt.gradient_norm))


def make_page_block(
    steps: int, terms: Sequence[str] = ("sparsity", "distill"), **options: Any
) -> StepBlock:
    """Numbers that differ by less than an order of magnitude, so that charts are linear."""
    block = make_block(steps, terms, **options)
    return replace(block, value=block.value + 1, gradient_norm=block.gradient_norm + 1)


@dataclass(frozen=True)
class Chart:
    """What Plotly holds of one chart."""

    names: list[str]
    steps: list[list[int | None]]
    heights: list[list[float | None]]
    visible: list[bool]
    range: tuple[float, float]
    annotations: list[str]


_READ_CHART: Final = """(id) => {
  const { data, layout } = document.getElementById(id);
  return {
    names: data.map((trace) => trace.name),
    steps: data.map((trace) => [...trace.x]),
    heights: data.map((trace) => [...trace.y]),
    visible: data.map((trace) => (trace.visible ?? true) === true),
    range: [...layout.xaxis.range],
    annotations: layout.annotations.map(({ x, text }) => `${x} ${text}`),
  };
}"""


def read_chart(page: Page, quantity: str) -> Chart:
    """Waits until the chart is drawn and reads what is in it."""
    page.wait_for_function(
        "id => document.getElementById(id)?.data !== undefined", arg=f"chart-{quantity}"
    )
    return Chart(**page.evaluate(_READ_CHART, f"chart-{quantity}"))
