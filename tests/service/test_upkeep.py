import threading

import pytest

from penaltyscope_service.upkeep import Upkeep


def test_it_works_at_once_and_again_whatever_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    calls = threading.Semaphore(0)

    def work() -> None:
        calls.release()
        raise OSError("no space left on device")

    upkeep = Upkeep(work, pause_seconds=0.001)
    upkeep.start()
    for _ in range(3):
        assert calls.acquire(timeout=30)
    upkeep.close()
    assert "no space left on device" in caplog.text


def test_it_ends_without_waiting_for_the_pause() -> None:
    called = threading.Event()
    upkeep = Upkeep(called.set, pause_seconds=10_000.0)
    upkeep.start()
    assert called.wait(30)
    upkeep.close()
    assert not upkeep._thread.is_alive()
