"""What is answered when something goes wrong."""

import asyncio

import httpx
from fastapi import FastAPI

from penaltyscope_service.api import admit_defect


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
