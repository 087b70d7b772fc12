import re
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penaltyscope_service.access import read_tokens
from penaltyscope_service.cli import cli
from penaltyscope_service.settings import Settings


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PENALTYSCOPE_{name.upper()}", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == f"penaltyscope {version('penaltyscope')}\n"


def test_every_setting_has_a_flag_and_its_help_names_the_variable() -> None:
    text = re.sub(r"\s+", " ", run("serve", "--help").stdout)

    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in text
        assert f"[env: PENALTYSCOPE_{name.upper()}]" in text


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (
            ["--port", "x"],
            {},
            "error: --port: input should be a valid integer, unable to parse string as an integer, "
            "got 'x'.",
        ),
        (
            [],
            {"PENALTYSCOPE_PORT": "70000"},
            "error: PENALTYSCOPE_PORT: input should be less than or equal to 65535, got '70000'.",
        ),
        (
            ["--window-seconds", "0"],
            {"PENALTYSCOPE_WINDOW_SECONDS": "30"},
            "error: --window-seconds: input should be greater than 0, got '0'.",
        ),
        (
            ["--tls-certificate", "c.pem"],
            {},
            "error: PENALTYSCOPE_TLS_KEY: must be given together with --tls-certificate, got None.",
        ),
        (
            ["--host", "0.0.0.0"],
            {},
            "error: --host: must be a loopback address, since without tokens everyone who can "
            "reach the port can read and write every run (--tokens-file asks for tokens; "
            "--allow-remote or PENALTYSCOPE_ALLOW_REMOTE=true listens all the same), "
            "got '0.0.0.0'.",
        ),
    ],
)
def test_a_bad_setting_is_named_as_it_was_given(
    arguments: list[str],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    result = run("serve", *arguments)

    assert result.stderr == message + "\n"
    assert result.exit_code == 2


def test_every_bad_setting_is_listed() -> None:
    result = run("serve", "--port", "x", "--series-limit", "0")

    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [
        "error",
        "--series-limit",
    ]


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port))

    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: cannot listen on 127.0.0.1 port {port} (--host, --port)"
    )


def test_a_port_of_grpc_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", "0", "--grpc", "--grpc-port", str(port))

    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: cannot listen on 127.0.0.1 port {port} (--host, --grpc-port)"
    )


def test_grpc_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penaltyscope_service.cli.find_spec", lambda name: None)

    result = run("serve", "--port", "0", "--grpc")

    assert result.exit_code == 2
    assert result.stderr == "error: --grpc needs grpcio: pip install 'penaltyscope[grpc]'\n"


def test_a_data_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = run("serve", "--port", "0", "--data-dir", "file/below")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: cannot open the history in file/below (--data-dir): ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokens-file", "none.toml"], "error: --tokens-file: cannot read none.toml: "),
        (
            ["--tls-certificate", "c.pem", "--tls-key", "k.pem"],
            "error: cannot use the certificates (--tls-certificate, --tls-key, --tls-client-ca): ",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(flags: list[str], message: str) -> None:
    result = run("serve", "--port", "0", *flags)

    assert result.exit_code == 2
    assert result.stderr.startswith(message)


def test_a_token_is_made_and_shown_once() -> None:
    made = run("token", "create", "ci", "--scope", "ingest", "--scope", "read",
               "--records-per-second", "5", "--tokens-file", "tokens.toml")  # fmt: skip

    assert made.exit_code == 0
    assert re.fullmatch(r"pst_[\w-]{43}\n", made.stdout)
    [token] = read_tokens(Path("tokens.toml"))
    assert (token.name, token.scopes, token.records_per_second) == ("ci", ["ingest", "read"], 5)

    again = run("token", "create", "ci", "--scope", "read", "--tokens-file", "tokens.toml")
    assert again.exit_code == 2
    assert again.stderr == "error: tokens.toml has a token 'ci' already.\n"
