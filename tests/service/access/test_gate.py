import hmac
from base64 import b64encode
from contextlib import suppress
from http import HTTPStatus

import pytest

from penaltyscope_service.access import DeniedError, Gate, Headers, Scope, Token
from penaltyscope_service.access._token import digest

SENDER, READER = b"pst_sender", b"pst_reader"
TOKENS = (
    Token(name="sender", sha256=digest(SENDER), scopes=["ingest"], records_per_second=10),
    Token(name="reader", sha256=digest(READER), scopes=["read"]),
)


def bearer(secret: bytes) -> Headers:
    return {b"authorization": b"Bearer " + secret}


def basic(secret: bytes) -> Headers:
    return {b"authorization": b"Basic " + b64encode(b"anyone:" + secret)}


def denied(gate: Gate, headers: Headers, scope: Scope) -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        gate.admit(headers, scope)
    return caught.value


def test_without_tokens_everyone_may_do_everything() -> None:
    assert Gate().admit({}, "ingest") is None
    assert Gate().admit(bearer(b"whatever"), "read") is None


def test_other_tokens_can_take_their_place_while_what_was_sent_still_counts() -> None:
    gate = Gate(TOKENS, clock=lambda: 0.0)
    sender = gate.admit(bearer(SENDER), "ingest")
    gate.charge(sender, 200)

    gate.know(TOKENS[:1])
    assert denied(gate, bearer(READER), "read").status is HTTPStatus.UNAUTHORIZED
    for _ in range(2):
        assert denied(gate, bearer(SENDER), "ingest").status is HTTPStatus.TOO_MANY_REQUESTS
    assert gate.throttled() == [(TOKENS[0], 2)]

    raised = TOKENS[0].model_copy(update={"records_per_second": 20})
    gate.know([raised])
    assert gate.admit(bearer(SENDER), "ingest") == raised
    assert gate.throttled() == [(raised, 0)]
    gate.know(TOKENS[1:])
    assert gate.throttled() == []


def test_a_run_is_of_a_tenant_that_has_a_token_or_of_nobody() -> None:
    gate = Gate([TOKENS[0].model_copy(update={"tenant": "acme"}), TOKENS[1]])

    assert gate.tenant_of("acme/r") == gate.tenant_of("acme//x/y") == "acme"
    assert gate.tenant_of("other/r") == gate.tenant_of("acme2/r") == gate.tenant_of("/r") == ""
    assert Gate(TOKENS).tenant_of("acme/r") == ""


def test_a_token_may_do_what_its_scopes_say() -> None:
    gate = Gate(TOKENS)

    assert gate.admit(bearer(SENDER), "ingest") == TOKENS[0]
    assert gate.admit({b"authorization": b"bEARER  " + READER + b" "}, "read") == TOKENS[1]
    assert gate.admit(basic(READER), "read") == TOKENS[1]
    wrong = denied(gate, bearer(READER), "ingest")
    assert wrong.status is HTTPStatus.FORBIDDEN
    assert wrong.message == "the token 'reader' does not have the scope 'ingest'."


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        bearer(b""),
        bearer(SENDER[:-1]),
        bearer(SENDER + b"x"),
        bearer(TOKENS[0].sha256.encode()),
        bearer(b"\xff\x00"),
        {b"authorization": SENDER},
        {b"authorization": b"Digest " + SENDER},
        {b"authorization": b"Basic !"},
        {b"authorization": b"Basic " + b64encode(SENDER)},
        {b"authorization": b"Basic \xff"},
    ],
)
@pytest.mark.parametrize("scope", ["ingest", "read"])
def test_whoever_has_no_token_that_is_known_is_nobody(headers: Headers, scope: Scope) -> None:
    error = denied(Gate(TOKENS), headers, scope)

    assert error.status is HTTPStatus.UNAUTHORIZED
    assert SENDER.decode() not in error.message


def test_what_browsers_add_by_themselves_lets_nobody_send() -> None:
    assert denied(Gate(TOKENS), basic(SENDER), "ingest").status is HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("secret", [SENDER, READER, b"pst_nobody"])
def test_a_token_is_compared_with_all_in_constant_time(
    secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def compare(presented: str, known: str) -> bool:
        compared.append(known)
        return presented == known

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with suppress(DeniedError):
        Gate(TOKENS).admit(bearer(secret), "read")

    assert compared == [token.sha256 for token in TOKENS]


def test_a_quota_lets_a_burst_through_and_then_no_more_than_its_rate() -> None:
    now = 0.0
    gate = Gate(TOKENS, clock=lambda: now)
    sender = gate.admit(bearer(SENDER), "ingest")

    gate.charge(sender, 100)
    assert gate.admit(bearer(SENDER), "ingest"), "a burst of ten seconds"
    gate.charge(sender, 25)
    error = denied(gate, bearer(SENDER), "ingest")
    assert error.status is HTTPStatus.TOO_MANY_REQUESTS
    assert error.retry_after_seconds == 3
    now = 2.4
    assert denied(gate, bearer(SENDER), "ingest").retry_after_seconds == 1
    now = 2.5
    assert gate.admit(bearer(SENDER), "ingest")
    now = 1e6
    gate.charge(sender, 101)
    assert denied(gate, bearer(SENDER), "ingest").retry_after_seconds == 1


def test_a_quota_is_of_one_token_and_refusals_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = Token(name="other", sha256=digest(b"o"), scopes=["ingest"], records_per_second=10)
    gate = Gate((*TOKENS, other), clock=lambda: 0.0)

    gate.charge(gate.admit(bearer(SENDER), "ingest"), 1000)
    for _ in range(2):
        denied(gate, bearer(SENDER), "ingest")
    gate.charge(gate.admit(bearer(READER), "read"), 1000)
    gate.charge(None, 1000)

    assert gate.admit(bearer(READER), "read")
    assert gate.admit(bearer(b"o"), "ingest")
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        "the token 'sender' sends more than its 10 records per second"
    ]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:4318", "localhost.", "127.0.0.1:4318", "[::1]:4318", "10.0.0.7",
     "watch.example.org:443", ""],
)  # fmt: skip
def test_a_host_that_is_ours_is_let_in(host: str) -> None:
    gate = Gate(host_names=frozenset({"watch.example.org"}))

    assert gate.admit({b"host": host.encode()}, "read") is None
    assert gate.admit({}, "ingest") is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:4318", "[evil]", "x",
     "watch.example.org.evil.example", "\xff", ":4318"],
)  # fmt: skip
@pytest.mark.parametrize("scope", ["ingest", "read"])
def test_a_host_that_may_be_anybody_s_is_not(host: str, scope: Scope) -> None:
    gate = Gate(host_names=frozenset({"watch.example.org"}))

    error = denied(gate, {b"host": host.encode("latin-1")}, scope)

    assert error.status is HTTPStatus.MISDIRECTED_REQUEST
    assert Gate().admit({b"host": host.encode("latin-1")}, scope) is None
