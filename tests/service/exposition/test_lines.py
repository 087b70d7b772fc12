import math
from io import BytesIO

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.exposition import _lines
from penaltyscope_service.exposition._lines import Columns, Strings, write_lines
from tests.service.steps import ANY, INF, NAN, UNHURRIED

INT64 = st.integers(-(2**63), 2**63 - 1)


def plain(number: float) -> bytes:
    if isinstance(number, float) and not math.isfinite(number):
        return b"NaN" if math.isnan(number) else b"+Inf" if number > 0 else b"-Inf"
    return orjson.dumps(number)


def write(
    owners: list[bytes],
    lines: list[tuple[bytes, bytes, bool]],
    rows: list[int],
    numbers: list[list[float]],
) -> bytes:
    """Numbers are by row, and in the order of lines."""
    fractional = np.array([line[2] for line in lines], np.bool_)
    columns = Columns(
        Strings.of([line[0] for line in lines]), Strings.of([line[1] for line in lines]), fractional
    )
    table = np.array(numbers, object).reshape(len(rows), len(lines))
    page = BytesIO()
    write_lines(
        page,
        Strings.of(owners),
        columns,
        np.array(rows, np.int64),
        table[:, ~fractional].astype(np.int64),
        table[:, fractional].astype(np.float64),
    )
    return page.getvalue()


@UNHURRIED
@given(st.data())
def test_lines_are_strings_and_numbers_one_after_the_other(data: st.DataObject) -> None:
    owners = data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
    line = st.tuples(st.binary(max_size=40), st.binary(max_size=40), st.booleans())
    lines = data.draw(st.lists(line, max_size=4))
    rows = data.draw(st.lists(st.integers(0, len(owners) - 1), max_size=8))
    numbers = [[data.draw(ANY if end else INT64) for *_, end in lines] for _ in rows]
    expected = b"".join(
        before + owners[row] + after + plain(number)
        for row, of_row in zip(rows, numbers, strict=True)
        for (before, after, _), number in zip(lines, of_row, strict=True)
    )
    assert write(owners, lines, rows, numbers) == expected


@pytest.mark.parametrize("number", [0, 9, 10, -1, 99, 100, 10**18, 2**63 - 1, -(2**63)])
def test_every_length_of_a_count_is_written(number: int) -> None:
    assert write([b"o"], [(b"{", b"} ", False)], [0], [[number]]) == b"{o} %d" % number


@pytest.mark.parametrize(
    "number", [0.0, -0.0, 1.0, -2.2250738585072014e-308, 1.7976931348623157e308, 5e-324, 1e16, 1e-7]
)
def test_every_form_of_a_number_is_written_and_means_the_same(number: float) -> None:
    text = write([b""], [(b"", b"", True)], [0], [[number]])
    assert text == orjson.dumps(number)
    assert repr(float(text)) == repr(number)


def test_what_is_not_finite_has_words_of_prometheus() -> None:
    lines = [(b" ", b"", True)] * 4
    assert write([b""], lines, [0], [[INF, 1.5, -INF, NAN]]) == b" +Inf 1.5 -Inf NaN"


def test_more_rows_than_are_written_at_once_are_all_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owners = [b"%d" % i for i in range(50)]
    lines = [(b"\na{", b"} ", False), (b"\nb{", b"} ", True)]
    numbers: list[list[float]] = [[i * 1000, i / 7] for i in range(50)]
    at_once = write(owners, lines, list(range(50)), numbers)
    monkeypatch.setattr(_lines, "_ROWS", 7)
    assert write(owners, lines, list(range(50)), numbers) == at_once
    assert at_once.count(b"\n") == 100


def test_there_may_be_nothing_to_write() -> None:
    assert write([], [(b"a", b"b", False)], [], []) == b""
    assert write([b"o"], [], [0], [[]]) == b""
