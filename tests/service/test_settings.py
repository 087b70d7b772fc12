from pathlib import Path

import pytest
from pydantic import ValidationError

from penaltyscope_service.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PENALTYSCOPE_{name.upper()}", raising=False)


def test_the_defaults_are_those_of_a_stock_exporter_on_the_same_machine() -> None:
    settings = Settings()

    assert (settings.host, settings.port) == ("127.0.0.1", 4318)
    assert settings.data_dir == Path("penaltyscope-data")
    assert settings.max_body_bytes == 16 * 1024 * 1024


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_sets_and_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENALTYSCOPE_PORT", "5000")
    monkeypatch.setenv("PENALTYSCOPE_SERIES_LIMIT", "10")

    settings = Settings(port=6000)

    assert (settings.port, settings.series_limit) == (6000, 10)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_hosts_need_no_permission(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gpu-4", "localhost.example.org"])
def test_other_hosts_need_tokens_or_permission(host: str) -> None:
    with pytest.raises(ValidationError, match="must be a loopback address, since without tokens"):
        Settings(host=host)

    assert Settings(host=host, allow_remote=True).host == host
    assert Settings(host=host, tokens_file=Path("tokens.toml")).host == host


def test_only_a_service_that_other_machines_do_not_reach_cares_by_which_name_it_is_called() -> None:
    assert Settings(host_names="A.example, b.example").own_names == frozenset(
        {"a.example", "b.example"}
    )
    assert Settings().own_names == frozenset()
    assert Settings(host="0.0.0.0", allow_remote=True).own_names is None


@pytest.mark.parametrize(
    "flags", [{"tls_certificate": "c"}, {"tls_key": "k"}, {"tls_client_ca": "a"}]
)
def test_a_certificate_and_its_key_go_together(flags: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="must be given together with --tls-certificate"):
        Settings.model_validate(flags)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("port", -1),
        ("port", 65_536),
        ("max_body_bytes", 0),
        ("queue_requests", 0),
        ("series_limit", 0),
        ("terminal_grace_seconds", 0),
        ("stall_floor_seconds", -1),
        ("lost_after_seconds", float("nan")),
        ("window_seconds", float("inf")),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})
