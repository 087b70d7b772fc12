import pytest

from penaltyscope.telemetry._environment import (
    Destination,
    destination,
    disabled,
    export_interval_seconds,
    request_timeout_seconds,
    resource_attributes,
)


def test_without_variables_it_is_the_default_port_of_otlp() -> None:
    assert destination({}) == Destination(url="http://localhost:4318/v1/logs")


def test_the_general_endpoint_is_a_base_and_the_signals_own_is_complete() -> None:
    general = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318/otlp/"}
    assert destination(general).url == "https://collector:4318/otlp/v1/logs"
    own = general | {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://logs/here"}
    assert destination(own).url == "http://logs/here"


def test_an_argument_wins_over_every_variable() -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://logs/here",
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20a,X-Team=blue",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
    }
    chosen = destination(
        variables, endpoint="http://mine:1", headers={"authorization": "b"}, timeout_seconds=1
    )
    assert chosen.url == "http://mine:1/v1/logs"
    assert chosen.headers == {"authorization": "b", "x-team": "blue"}
    assert chosen.timeout_seconds == 1


def test_the_signals_own_variable_wins_over_the_general_one() -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "500",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION": "",  # empty is unset
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/key.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/cert.pem",
    }
    chosen = destination(variables)
    assert chosen.timeout_seconds == 0.5
    assert not chosen.gzip
    assert chosen.certificate_file == "/ca.pem"
    assert chosen.client_key_file == "/key.pem"
    assert chosen.client_certificate_file == "/cert.pem"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "http:// or https:// URL, got"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "milliseconds, got '10s'"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "-1"}, "milliseconds, got '-1'"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli"}, "'gzip' or 'none', got 'brotli'"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "Bearer"}, "list of key=value, got 'Bearer'"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        destination(variables)


def test_a_timeout_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout_seconds must be positive, got 0"):
        destination({}, timeout_seconds=0)


def test_the_service_name_wins_over_the_resource_attributes() -> None:
    variables = {
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=a,host.name=h%20h",
        "OTEL_SERVICE_NAME": "b",
    }
    assert resource_attributes(variables) == {"service.name": "b", "host.name": "h h"}


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("TRUE ", True), ("", False), ("1", False)]
)
def test_only_true_disables(text: str, expected: bool) -> None:
    assert disabled({"OTEL_SDK_DISABLED": text}) is expected


def test_every_signal_has_a_timeout_of_its_own_in_milliseconds() -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "500",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "",  # empty is unset
    }
    assert request_timeout_seconds(variables, "METRICS") == 0.5
    assert request_timeout_seconds(variables, "TRACES") == 2.5
    assert request_timeout_seconds({}, "METRICS") == 10
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_METRICS_TIMEOUT must be"):
        request_timeout_seconds({"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "x"}, "METRICS")


def test_metrics_are_exported_every_minute_unless_told_otherwise() -> None:
    assert export_interval_seconds({}, None) == 60
    variables = {"OTEL_METRIC_EXPORT_INTERVAL": "5000"}
    assert export_interval_seconds(variables, None) == 5
    assert export_interval_seconds(variables, 1.5) == 1.5
