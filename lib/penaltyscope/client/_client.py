"""The read API of the service, a method for each of its operations."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, get_args
from urllib.parse import quote, urlencode

from penaltyscope.client._answers import (
    Format,
    Health,
    Problem,
    Quantity,
    Readiness,
    Run,
    RunDetail,
    Runs,
    Series,
    State,
)
from penaltyscope.client._errors import AnswerError, ClientError, refusal
from penaltyscope.client._read import read
from penaltyscope.client._transport import Answer, Transport

T = TypeVar("T")

_FORMATS: Final[tuple[Format, ...]] = get_args(Format)
_PAGE_RUNS: Final = 1000


class Client:
    """Reads from one service; may be used by several threads.

    Every method raises :class:`UnreachableError`, :class:`AnswerError` or a :class:`ProblemError`.

        with Client("http://127.0.0.1:4318") as client:
            for run in client.runs(state="running"):
                print(run.run, run.last_step, run.first_nonfinite)
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:4318",
        *,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        ca_file: str | os.PathLike[str] | None = None,
        client_certificate_file: str | os.PathLike[str] | None = None,
        client_key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Prepares a client; nothing is sent yet.

        Args:
            url: of the service, without ``/api``.
            token: one with the scope ``read``.
            timeout_seconds: for which a connection may be silent.
            ca_file: PEM: the authorities that the service's certificate is checked against;
                default: those of the system.
            client_certificate_file: PEM, where the service asks for one.
            client_key_file: PEM, its key.

        Raises:
            ValueError: an argument cannot be what it should.
            OSError: a file cannot be read.
        """
        self._transport = Transport(
            url,
            token=token,
            timeout_seconds=timeout_seconds,
            ca_file=_path(ca_file),
            client_certificate_file=_path(client_certificate_file),
            client_key_file=_path(client_key_file),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes what is open; the client can still be used."""
        self._transport.close()

    def runs(
        self,
        *,
        state: State | Sequence[State] = (),
        after: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Run]:
        """Runs, the newest first, asked for page by page while they are taken.

        Args:
            state: one or several states; default: all of them.
            after: the run to begin behind.
            limit: most runs; default: all of them.
        """
        left = limit
        while left is None or left > 0:
            size = _PAGE_RUNS if left is None else min(left, _PAGE_RUNS)
            page = self._get(
                Runs, "/api/runs", {"state": _several(state), "after": after, "limit": size}
            )
            yield from page.runs
            after, left = page.next, left if left is None else left - len(page.runs)
            if after is None:
                return

    def run(self, run: str) -> RunDetail:
        """A run with the last numbers of its terms."""
        return self._get(RunDetail, _of(run))

    def series(
        self,
        run: str,
        *,
        pipeline: str | None = None,
        rank: int = 0,
        term: str | Sequence[str] = (),
        quantity: Quantity | Sequence[Quantity] = (),
        from_step: int | None = None,
        to_step: int | None = None,
        points: int = 1000,
    ) -> Series:
        """Numbers over steps, downsampled so that no NaN, infinity or peak is lost.

        Args:
            run: its id.
            pipeline: default: the run's first.
            rank: whose numbers.
            term: one or several terms, ``base`` or ``total``; default: all of them.
            quantity: one or several; default: all of them.
            from_step: the first step, included.
            to_step: the last step, included.
            points: most points of a line, 4 to 100,000.
        """
        return self._get(
            Series,
            _of(run, "/series"),
            {
                "pipeline": pipeline,
                "rank": rank,
                "term": _several(term),
                "quantity": _several(quantity),
                "from_step": from_step,
                "to_step": to_step,
                "points": points,
            },
        )

    def export(
        self,
        run: str,
        path: str | os.PathLike[str],
        *,
        format: Format | None = None,  # noqa: A002  # as it is called in the API
    ) -> None:
        """Writes every step of a run to a file, which appears once it is whole.

        Args:
            run: its id.
            path: of the file; what was there before is replaced.
            format: default: the suffix of ``path``.

        Raises:
            ValueError: neither ``format`` nor the suffix is a format.
            OSError: the file cannot be written.
        """
        whole = Path(path)
        kind = whole.suffix.removeprefix(".") if format is None else format
        if kind not in _FORMATS:
            raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got {kind!r}.")
        part = whole.with_name(f"{whole.name}.part")
        with self._transport.get(_of(run, "/export") + _query({"format": kind})) as answer:
            _require(answer)
            _write(part, answer.pieces())
        part.replace(whole)

    def health(self) -> Health:
        """Whether the process answers."""
        return self._get(Health, "/healthz")

    def readiness(self) -> Readiness:
        """Whether requests would be kept; that they would not is an answer, no exception."""
        with self._transport.get("/readyz") as answer:
            data = _decode(answer.status, answer.read())
            if answer.status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
                raise _refusal(answer, data)
            if isinstance(data, dict) and "reasons" not in data:  # too many connections
                raise _refusal(answer, data)
            return read(Readiness, data)

    def metrics(self) -> str:
        """What Prometheus scrapes, in its text format 0.0.4."""
        return self._body("/metrics").decode()

    def _get(self, kind: type[T], target: str, query: Mapping[str, Any] | None = None) -> T:
        return read(kind, _decode(HTTPStatus.OK, self._body(target + _query(query or {}))))

    def _body(self, target: str) -> bytes:
        with self._transport.get(target) as answer:
            _require(answer)
            return answer.read()


def _require(answer: Answer) -> None:
    if answer.status != HTTPStatus.OK:
        raise _refusal(answer, _decode(answer.status, answer.read()))


def _refusal(answer: Answer, data: object) -> ClientError:
    if answer.status < HTTPStatus.BAD_REQUEST:  # a redirect, as of a proxy that wants a login
        return AnswerError(f"the answer must be HTTP 200 or a problem, got {answer.status}.")
    return refusal(answer.status, read(Problem, data), answer.retry_after)


def _decode(status: int, body: bytes) -> object:
    try:
        data: object = json.loads(body)
    except ValueError as error:
        problem = f"the answer must be JSON, got {body[:100]!r} with HTTP {status}."
        raise AnswerError(problem) from error
    return data


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    """Leaves no file behind that is not whole."""
    try:
        with path.open("wb") as file:
            file.writelines(pieces)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _of(run: str, rest: str = "") -> str:
    return f"/api/runs/{quote(run, safe='')}{rest}"


def _several(given: str | Sequence[str]) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given


def _query(parameters: Mapping[str, object]) -> str:
    given = {name: value for name, value in parameters.items() if value not in (None, ())}
    return f"?{urlencode(given, doseq=True)}" if given else ""


def _path(given: str | os.PathLike[str] | None) -> str | None:
    return None if given is None else os.fspath(given)
