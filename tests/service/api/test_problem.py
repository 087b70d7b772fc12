"""What is answered when something goes wrong."""

import asyncio
import sqlite3
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from penaltyscope_service.api import admit_defect
from penaltyscope_service.app import create_service
from penaltyscope_service.settings import Settings
from tests.service.blocks import make_block, make_request
from tests.service.client import ServiceClient


def test_a_defect_is_answered_without_a_word_of_what_it_is() -> None:
    app = FastAPI()
    app.add_exception_handler(Exception, admit_defect)

    @app.get("/")
    def broken() -> None:
        raise RuntimeError("the password is secret")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/")

    answer = asyncio.run(ask())

    assert answer.status_code == 500
    assert answer.json() == {"detail": "internal error; see the log."}


def test_what_is_damaged_on_the_disk_is_not_shown_and_everything_else_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ServiceClient(create_service(Settings(data_dir=tmp_path))) as client:
        for run in ("whole", "damaged"):
            body = make_request(make_block(steps=20), run=run)
            sent = client.post("/v1/logs", body, content_type="application/x-protobuf")
            assert sent.status_code == 200
        with sqlite3.connect(tmp_path / "history.sqlite") as connection:
            connection.execute(
                "UPDATE block SET payload = x'00' WHERE id = (SELECT max(id) FROM block)"
            )
        connection.close()

        whole = client.get("/api/runs/whole/series")
        damaged = client.get("/api/runs/damaged/series")

    assert whole.status_code == 200
    assert damaged.status_code == 500
    assert damaged.json()["detail"].startswith("the history is damaged here; see the log")
    assert "the history is damaged: a block of steps is not what was written." in caplog.messages
