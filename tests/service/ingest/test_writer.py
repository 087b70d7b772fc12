import asyncio
import sqlite3
import threading
from collections.abc import Callable
from functools import partial

import pytest

from penaltyscope_service.decode import Decoded, InvalidRequestError, decode_logs
from penaltyscope_service.ingest import Writer, _writer, awaited
from penaltyscope_service.refusal import RefusedError
from tests.service.blocks import make_block, make_request
from tests.service.ingest.store import MemoryStore

BODY = make_request(make_block(steps=3))


def decode() -> Decoded:
    return decode_logs(BODY, "application/x-protobuf")


def start(store: MemoryStore, *, max_requests: int = 10, max_bytes: int = 1_000) -> Writer:
    writer = Writer(store, max_requests=max_requests, max_bytes=max_bytes)
    writer.start()
    return writer


def submit_to(writer: Writer, size: int, decode: Callable[[], Decoded]) -> asyncio.Future[Decoded]:
    return awaited(partial(writer.submit, size, decode))


async def submit_one(writer: Writer, decode: Callable[[], Decoded]) -> Decoded:
    return await submit_to(writer, 1, decode)


async def wait_until_taken(gate: threading.Event, task: asyncio.Future[Decoded]) -> None:
    """Lets the task hand its request over; the store's gate keeps it there."""
    assert not gate.is_set()
    await asyncio.sleep(0)
    assert not task.done()


def test_a_request_is_kept_before_it_is_answered() -> None:
    store = MemoryStore()
    writer = start(store)

    decoded = asyncio.run(submit_one(writer, decode))

    assert decoded.received == {"pipeline.start": 3, "pipeline.stop": 3}
    assert store.steps == 3
    writer.close()


def test_nothing_is_answered_while_the_store_is_at_work() -> None:
    store = MemoryStore()
    store.gate.clear()
    writer = start(store)

    async def submit() -> None:
        task = submit_to(writer, 1, decode)
        await wait_until_taken(store.gate, task)
        assert store.steps == 0
        store.gate.set()
        await task
        assert store.steps == 3

    asyncio.run(submit())
    writer.close()


@pytest.mark.parametrize("limits", [{"max_requests": 2}, {"max_bytes": 20}])
def test_a_full_queue_refuses_and_takes_requests_again_when_it_has_emptied(
    limits: dict[str, int],
) -> None:
    store = MemoryStore()
    store.gate.clear()
    writer = start(store, **limits)

    async def submit() -> None:
        tasks = [submit_to(writer, 10, decode) for _ in range(2)]
        await wait_until_taken(store.gate, tasks[-1])
        with pytest.raises(RefusedError, match="2 requests of 20 bytes are waiting") as caught:
            await submit_to(writer, 10, decode)
        assert caught.value.status == 503
        assert caught.value.retry_after_seconds == 1
        store.gate.set()
        await asyncio.gather(*tasks)
        await submit_to(writer, 10, decode)

    asyncio.run(submit())
    assert store.steps == 9
    writer.close()


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("database or disk is full"), OSError(28, "No space left")]
)
def test_a_store_that_cannot_write_refuses_for_now_and_the_writer_goes_on(
    error: Exception,
) -> None:
    store = MemoryStore(error=error)
    writer = start(store)

    with pytest.raises(RefusedError, match="history cannot be written at the moment") as caught:
        asyncio.run(submit_one(writer, decode))
    assert caught.value.status == 503
    assert caught.value.retry_after_seconds == 10

    store.error = None
    asyncio.run(submit_one(writer, decode))
    assert store.steps == 3
    writer.close()


def test_a_defect_fails_its_own_request_only() -> None:
    store = MemoryStore(error=ZeroDivisionError("a defect"))
    writer = start(store)

    with pytest.raises(ZeroDivisionError, match="a defect"):
        asyncio.run(submit_one(writer, decode))

    store.error = None
    asyncio.run(submit_one(writer, decode))
    assert store.steps == 3
    writer.check()
    writer.close()


def test_what_decoding_raises_is_raised_to_whoever_submitted() -> None:
    writer = start(MemoryStore())

    with pytest.raises(InvalidRequestError):
        asyncio.run(submit_one(writer, lambda: decode_logs(b"\xff", "application/x-protobuf")))
    writer.close()


def test_requests_that_wait_share_a_transaction() -> None:
    store = MemoryStore()
    store.gate.clear()
    writer = start(store, max_requests=100)

    async def submit() -> None:
        tasks = [submit_to(writer, 1, decode) for _ in range(40)]
        await wait_until_taken(store.gate, tasks[-1])
        store.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(submit())
    assert store.steps == 120
    assert store.calls <= 4
    writer.close()


def test_a_defect_takes_none_of_its_neighbours_down() -> None:
    store = MemoryStore()
    store.gate.clear()
    writer = start(store)
    other = decode_logs(make_request(make_block(), run="poison"), "application/x-protobuf")
    store.poison = "poison"

    async def submit() -> None:
        tasks = [submit_to(writer, 1, one) for one in (decode, decode, lambda: other, decode)]
        await wait_until_taken(store.gate, tasks[-1])
        store.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, Decoded) for result in results] == [True, True, False, True]
        assert isinstance(results[2], ZeroDivisionError)

    asyncio.run(submit())
    assert store.steps == 9
    writer.close()


def test_an_answer_that_cannot_be_given_keeps_no_other_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = start(MemoryStore())

    def fail(_: object) -> None:
        raise ZeroDivisionError("a defect")

    async def submit() -> None:
        writer.submit(1, decode, fail)
        await submit_to(writer, 1, decode)

    asyncio.run(submit())
    assert "a request could not be answered" in caplog.text
    writer.close()


def test_a_request_that_nobody_waits_for_any_more_is_passed_over() -> None:
    store = MemoryStore()
    store.gate.clear()
    writer = start(store)

    async def submit() -> None:
        first = submit_to(writer, 1, decode)
        await wait_until_taken(store.gate, first)
        second = submit_to(writer, 1, decode)
        await wait_until_taken(store.gate, second)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        store.gate.set()
        await first
        await submit_to(writer, 1, decode)

    asyncio.run(submit())
    assert store.steps == 6
    writer.close()


def test_the_event_loop_waits_for_a_writer_that_keeps_up_and_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    writer = start(store)

    async def submit() -> None:
        monkeypatch.setattr(_writer, "_TURN_SECONDS", 60.0)
        kept = submit_to(writer, 1, decode)
        await asyncio.sleep(0)
        assert kept.done()  # without having gone to sleep, or been told

        store.gate.clear()
        monkeypatch.setattr(_writer, "_TURN_SECONDS", 0.001)
        slow = submit_to(writer, 1, decode)
        await wait_until_taken(store.gate, slow)

        monkeypatch.setattr(_writer, "_TURN_SECONDS", 60.0)
        rescue = threading.Timer(30.0, store.gate.set)
        rescue.start()
        late = submit_to(writer, 1, decode)
        await wait_until_taken(store.gate, late)  # which fails after a turn: it would be open
        rescue.cancel()
        store.gate.set()
        await asyncio.gather(slow, late)  # which are told, since nobody stands still for them

    asyncio.run(submit())
    assert store.steps == 9
    writer.close()


def test_closing_keeps_what_was_queued_before() -> None:
    store = MemoryStore()
    store.gate.clear()
    writer = start(store)

    async def submit() -> None:
        tasks = [submit_to(writer, 1, decode) for _ in range(3)]
        await wait_until_taken(store.gate, tasks[-1])
        closing = asyncio.create_task(asyncio.to_thread(writer.close))
        store.gate.set()
        await asyncio.gather(closing, *tasks)

    asyncio.run(submit())
    assert store.steps == 9


def test_check_fails_before_start_and_after_the_end() -> None:
    writer = Writer(MemoryStore(), max_requests=1, max_bytes=1)
    with pytest.raises(RuntimeError, match="not running"):
        writer.check()

    writer.start()
    writer.check()

    writer.close()
    with pytest.raises(RuntimeError, match="not running"):
        writer.check()
