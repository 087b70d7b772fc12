import json
from pathlib import Path

import pytest

from benchmarks.row import Row, table, write


@pytest.mark.parametrize(
    ("measured", "at_least", "met"),
    [
        (1.04, False, True),
        (1.05, False, True),
        (1.06, False, False),
        (1.04, True, False),
        (1.05, True, True),
        (1.06, True, True),
        (float("nan"), False, False),
        (float("nan"), True, False),
    ],
)
def test_a_bar_is_met_on_its_good_side_and_exactly_on_it(
    measured: float, at_least: bool, met: bool
) -> None:
    assert Row("r", measured, bar=1.05, at_least=at_least).met is met


def test_without_a_bar_nothing_is_met_or_missed() -> None:
    assert Row("r", 3.0).met is None


def test_the_table_says_what_was_missed() -> None:
    lines = table(
        [Row("fast", 0.3, bar=0.45), Row("slow", 12.25, "us", bar=8.0), Row("shown", 2.0)]
    ).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["fast", "0.300", "x", "≤", "0.45", "yes"],
        ["slow", "12.2", "us", "≤", "8", "NO"],
        ["shown", "2.000", "x"],
    ]


def test_rows_are_written_as_json_with_the_table_beside_it(tmp_path: Path) -> None:
    rows = [Row("speedup", 7.5, bar=7.0, at_least=True), Row("lost", float("nan"), "us", bar=1.0)]
    write(tmp_path / "new" / "rows.json", rows, device="a device")
    written = json.loads((tmp_path / "new" / "rows.json").read_text())
    assert written.pop("rows") == [
        {
            "name": "speedup",
            "measured": 7.5,
            "unit": "x",
            "bar": 7.0,
            "at_least": True,
            "met": True,
        },
        {
            "name": "lost",
            "measured": None,
            "unit": "us",
            "bar": 1.0,
            "at_least": False,
            "met": False,
        },
    ]
    assert written["device"] == "a device"
    assert all(written[fact] for fact in ("date", "processor", "cores", "python", "torch"))
    text = (tmp_path / "new" / "rows.txt").read_text()
    assert "device: a device\n" in text
    assert text.endswith(table(rows) + "\n")
