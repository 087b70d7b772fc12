import hashlib
import re
import stat
from pathlib import Path

import pytest

from penaltyscope_service.access import TokensError, add_token, read_tokens

HASH = "0" * 64
GOOD = f'[[token]]\nname = "a"\nsha256 = "{HASH}"\nscopes = ["read"]\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_what_is_added_is_read_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"

    first = add_token(file, "ci", ["ingest", "read", "read"], records_per_second=1000)
    second = add_token(file, "prometheus", ["read"])

    sender, reader = read_tokens(file)
    assert (sender.name, sender.scopes, sender.records_per_second) == (
        "ci",
        ["ingest", "read"],
        1000,
    )
    assert (reader.name, reader.scopes, reader.records_per_second) == ("prometheus", ["read"], None)
    for secret, token in ((first, sender), (second, reader)):
        assert re.fullmatch(r"pst_[\w-]{43}", secret)
        assert token.sha256 == hashlib.sha256(secret.encode()).hexdigest()
        assert secret.removeprefix("pst_") not in file.read_text()


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens.toml", "ci", ["read"])

    assert stat.S_IMODE((tmp_path / "tokens.toml").stat().st_mode) == 0o600


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "tokens.toml", GOOD)
    file.chmod(0o620)

    with pytest.raises(TokensError, match=r"must not be writable by others .*, got 620"):
        read_tokens(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "token: field required"),
        ("token = []", "token: list should have at least 1 item"),
        ("[[token", "cannot read"),
        (GOOD.replace('"a"', '"a\\n"'), "token.0.name: string should match"),
        (GOOD.replace("read", "write"), "token.0.scopes.0: input should be 'ingest' or 'read'"),
        (GOOD.replace('["read"]', "[]"), "token.0.scopes: list should have at least 1"),
        (GOOD.replace(HASH, "pst_in-the-wrong-place"), "token.0.sha256: string should match"),
        (GOOD + "secret = 1", "token.0.secret: extra inputs are not permitted"),
        (GOOD + "records_per_second = 1.0", "token.0: records_per_second limits the scope ingest"),
        (GOOD + 'tenant = "a/b"', "token.0.tenant: string should match"),
        (
            GOOD.replace("read", "ingest")
            + GOOD.replace('"a"', '"b"').replace(HASH, "1" * 64)
            + 'tenant = "acme"',
            "token: 'a' must have a tenant",
        ),
        (GOOD + GOOD, "name must be different for every token"),
        (GOOD + GOOD.replace('"a"', '"b"'), "sha256 must be different for every token"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(TokensError, match=re.escape(problem)) as caught:
        read_tokens(write(tmp_path / "tokens.toml", text))

    assert "wrong-place" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="cannot read"):
        read_tokens(tmp_path / "tokens.toml")


@pytest.mark.parametrize(
    ("name", "scopes", "rate", "problem"),
    [
        ("ci", ["read"], None, "has a token 'ci' already"),
        ('x"\n', ["read"], None, "name: string should match"),
        ("x", ["write"], None, "scopes.0: input should be"),
        ("x", ["read"], 5.0, "limits the scope ingest"),
        ("x", ["ingest"], 0.0, "records_per_second: input should be greater than 0"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_added(
    tmp_path: Path, name: str, scopes: list[str], rate: float | None, problem: str
) -> None:
    file = tmp_path / "tokens.toml"
    add_token(file, "ci", ["ingest"])
    before = file.read_bytes()

    with pytest.raises(TokensError, match=problem):
        add_token(file, name, scopes, records_per_second=rate)

    assert file.read_bytes() == before


def test_where_one_token_has_a_tenant_none_can_send_without(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    add_token(file, "acme", ["ingest", "read"], tenant="acme")
    add_token(file, "prometheus", ["read"])

    with pytest.raises(TokensError, match="token: 'x' must have a tenant"):
        add_token(file, "x", ["ingest"])

    assert [token.tenant for token in read_tokens(file)] == ["acme", None]
