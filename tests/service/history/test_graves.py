"""What is remembered of deleted runs, and for how long."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from penaltyscope_service.dedupe import Ledger
from penaltyscope_service.history import History
from penaltyscope_service.history._graves import GRAVE_SECONDS
from tests.service.observed import Clock, batch, ending, open_observatory
from tests.service.steps import make_steps

BURIED_AT = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    """Two runs, of five and of seven evaluations, that ended."""
    observatory = open_observatory(path.parent)
    for run, count in (("old", 5), ("new", 7)):
        observatory.ingest([batch(make_steps(range(count)), run=run, attempt=3)])
        observatory.ingest([batch(run=run, attempt=3, events=[ending("finished")])])
    observatory.close()
    history = History.open(path)
    history.load()
    yield history
    history.close()


def number(path: Path, run: str) -> int:
    with sqlite3.connect(path) as connection:
        (found,) = connection.execute("SELECT id FROM run WHERE run = ?", (run,)).fetchone()
    connection.close()
    return int(found)


def test_a_grave_tells_how_far_each_recorder_of_a_run_had_come(
    history: History, path: Path
) -> None:
    assert history.graves.attempt("old") is None
    history.bury(number(path, "old"), [], BURIED_AT)
    assert history.graves.attempt("old") == 3
    assert history.graves.high("old", 0, "p", "first") == 5
    assert history.graves.high("old", 1, "p", "first") == 0
    assert history.graves.high("old", 0, "p", "second") == 0
    assert history.graves.attempt("new") is None


def test_a_grave_knows_what_was_not_written_of_a_source(history: History, path: Path) -> None:
    (source,) = (s for s in history.load().sources if s.ledger.high == 5)

    history.bury(number(path, "old"), [source._replace(ledger=Ledger(high=9))], BURIED_AT)

    assert history.graves.high("old", 0, "p", "first") == 9
    assert history.graves.high("new", 0, "p", "first") == 0


@pytest.mark.parametrize(("later", "is_known"), [(GRAVE_SECONDS, True), (GRAVE_SECONDS + 1, False)])
def test_a_grave_is_given_up_when_a_run_is_buried_long_after(
    history: History, path: Path, later: float, is_known: bool
) -> None:
    history.bury(number(path, "old"), [], BURIED_AT)
    history.bury(number(path, "new"), [], BURIED_AT + later)
    assert (history.graves.attempt("old") is not None) == is_known
    assert history.graves.high("old", 0, "p", "first") == (5 if is_known else 0)
    assert history.graves.high("new", 0, "p", "first") == 7


def test_a_retry_is_a_duplicate_until_the_grave_is_given_up(tmp_path: Path) -> None:
    clock = Clock()
    observatory = open_observatory(tmp_path, clock, retention_days=1)
    sent = {run: batch(make_steps(range(4)), run=run) for run in ("old", "other")}

    def delete(run: str) -> None:
        observatory.ingest([sent[run], batch(run=run, events=[ending("finished")])])
        clock.now += 2 * 86_400
        observatory.tidy()
        assert run not in {known.run for known in observatory.runs()}

    delete("old")
    outcome = observatory.ingest([sent["old"]])
    assert (outcome.new_steps, outcome.duplicates) == (0, 4)
    clock.now += GRAVE_SECONDS
    delete("other")  # graves are looked through when there is a new one
    outcome = observatory.ingest([sent["old"]])
    assert (outcome.new_steps, outcome.duplicates) == (4, 0)
    observatory.close()
