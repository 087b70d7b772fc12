"""Checks of a running service, over HTTP alone."""

import ipaddress
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from urllib3.exceptions import HTTPError

from penaltyscope_service.doctor._finding import Finding
from penaltyscope_service.doctor._visit import Answer, Visit

_MOST_SKEW_SECONDS: Final = 5.0
"""Steps carry the jobs' times, the service's own states carry its own."""
_EMPTY: Final = {"application/x-protobuf": b"", "application/json": b"{}"}
_NEW_TOKEN: Final = "make one with `penaltyscope token create`, and give it in PENALTYSCOPE_TOKEN"


def examine_service(visit: Visit, *, version: str, clock: Callable[[], float]) -> Iterator[Finding]:
    """Everything that can be seen without its folder; one finding if nobody answers.

    Args:
        visit: the service.
        version: of this package.
        clock: Unix time in seconds.
    """
    try:
        health = visit.get("/healthz")
        if health.status != HTTPStatus.OK or health.body != b'{"status":"ok"}':
            yield Finding(
                "fail",
                "reachable",
                f"{visit.url} answers {health.status}, and not as Penaltyscope does",
                "check the address, and what else listens there",
            )
            return
        yield Finding("ok", "reachable", f"{visit.url} answers")
        yield _ready(visit.get("/readyz"))
        yield _skew(health, clock())
        yield _lock(visit, visit.get("/api/runs"))
        if visit.token is not None:
            yield _key(visit.get("/api/runs", token=visit.token))
        yield _version(visit.get("/openapi.json", token=visit.token), version)
        for content_type, body in _EMPTY.items():
            yield _otlp(visit.post("/v1/logs", body, content_type), content_type)
    except HTTPError as error:
        yield Finding(
            "fail",
            "reachable",
            f"{visit.url} cannot be asked: {error}",
            "start it with `penaltyscope serve`, or check address, firewall and certificates",
        )


def _ready(answer: Answer) -> Finding:
    if answer.status == HTTPStatus.OK:
        return Finding("ok", "ready", "what is sent is kept")
    try:
        reasons = "; ".join(map(str, answer.json()["reasons"]))
    except (ValueError, LookupError, TypeError):
        reasons = f"the answer is {answer.status}"
    return Finding("fail", "ready", reasons, "make room on the disk, or see the service's log")


def _skew(health: Answer, now: float) -> Finding:
    try:
        skew = now - parsedate_to_datetime(health.date).timestamp()
    except ValueError:
        return Finding("warn", "clock", "the answer has no date", "ask it without a proxy between")
    # The header has whole seconds.
    if -_MOST_SKEW_SECONDS <= skew <= _MOST_SKEW_SECONDS + 1:
        return Finding("ok", "clock", "the service's clock agrees with the one here")
    return Finding(
        "warn",
        "clock",
        f"the service's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} this one",
        "synchronise both (NTP), or times of steps and of states do not fit together",
    )


def _lock(visit: Visit, answer: Answer) -> Finding:
    """What somebody sees who has no token."""
    if answer.status == HTTPStatus.UNAUTHORIZED:
        if visit.token is None:
            return Finding("warn", "tokens", "are asked for, and none was given here", _NEW_TOKEN)
        if visit.parts.scheme == "http" and not _is_local(visit.parts.hostname):
            return Finding(
                "warn",
                "tokens",
                "are asked for, but travel in plain text",
                "serve with --tls-certificate and --tls-key, and use https://",
            )
        return Finding("ok", "tokens", "are asked for")
    if answer.status != HTTPStatus.OK:
        return Finding(
            "fail", "tokens", f"the API answers {answer.status}", "see the service's log"
        )
    if _is_local(visit.parts.hostname):
        return Finding("ok", "tokens", "are not asked for, on this machine")
    return Finding(
        "warn",
        "tokens",
        "are not asked for: everyone who reaches the port can read and write every run",
        "serve with --tokens-file",
    )


def _key(answer: Answer) -> Finding:
    if answer.status == HTTPStatus.OK:
        return Finding("ok", "reading", "the API answers")
    if answer.status == HTTPStatus.FORBIDDEN:
        return Finding(
            "warn",
            "reading",
            "the token does not have the scope read",
            "give one that has, to check more",
        )
    return Finding("fail", "reading", f"the answer to the token is {answer.status}", _NEW_TOKEN)


def _version(answer: Answer, own: str) -> Finding:
    try:
        theirs = str(answer.json()["info"]["version"])
    except (ValueError, LookupError, TypeError):
        return Finding(
            "warn",
            "version",
            f"cannot be seen: the answer is {answer.status}",
            "give a token with the scope read",
        )
    if theirs == own:
        return Finding("ok", "version", f"{own}, here and there")
    return Finding(
        "warn", "version", f"the service has {theirs}, here is {own}", "install the same version"
    )


def _otlp(answer: Answer, content_type: str) -> Finding:
    if answer.status == HTTPStatus.OK and answer.body == _EMPTY[content_type]:
        return Finding("ok", "sending", f"an empty request in {content_type} is accepted")
    if answer.status == HTTPStatus.FORBIDDEN:
        return Finding(
            "warn",
            "sending",
            "the token does not have the scope ingest",
            "give one that has, to check more",
        )
    remedy: dict[int, str] = {
        HTTPStatus.UNAUTHORIZED: _NEW_TOKEN,
        HTTPStatus.TOO_MANY_REQUESTS: "wait, or give the token a larger quota",
        HTTPStatus.SERVICE_UNAVAILABLE: "make room on the disk, or send less at a time",
    }
    return Finding(
        "fail",
        "sending",
        f"the answer to an empty request in {content_type} is {answer.status}",
        remedy.get(answer.status, "check what stands between, and the service's log"),
    )


def _is_local(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
