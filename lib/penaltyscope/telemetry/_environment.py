"""OpenTelemetry's standard environment variables, as far as they concern an exporter of logs.

Reference: OpenTelemetry specification, "OTLP Exporter Configuration" and "SDK environment
variables". Variables that name the signal (``..._LOGS_...``) win over the general ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_DEFAULT_ENDPOINT = "http://localhost:4318"
_DEFAULT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where and how batches are posted."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS
    gzip: bool = True
    certificate_file: str | None = None
    """CA certificates that the server's is checked against."""
    client_certificate_file: str | None = None
    client_key_file: str | None = None


def destination(
    environment: Mapping[str, str],
    *,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> Destination:
    """Reads ``OTEL_EXPORTER_OTLP_*``; what is passed explicitly wins.

    Raises:
        ValueError: a variable or an argument cannot be understood.
    """
    if timeout_seconds is None:
        timeout_seconds = request_timeout_seconds(environment, "LOGS")
    elif not timeout_seconds > 0:
        raise ValueError(f"timeout_seconds must be positive, got {timeout_seconds}.")
    return Destination(
        url=_url(environment, endpoint),
        headers={**_headers(environment), **(headers or {})},
        timeout_seconds=timeout_seconds,
        gzip=_compression(environment),
        certificate_file=_read(environment, "CERTIFICATE"),
        client_certificate_file=_read(environment, "CLIENT_CERTIFICATE"),
        client_key_file=_read(environment, "CLIENT_KEY"),
    )


def resource_attributes(environment: Mapping[str, str]) -> dict[str, str]:
    """``OTEL_RESOURCE_ATTRIBUTES``, and ``OTEL_SERVICE_NAME`` over its ``service.name``."""
    attributes = _pairs("OTEL_RESOURCE_ATTRIBUTES", environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if name := environment.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = name
    return attributes


def export_interval_seconds(environment: Mapping[str, str], given: float | None) -> float:
    """Between two exports of metrics: what was given, ``OTEL_METRIC_EXPORT_INTERVAL``, a minute.

    Raises:
        ValueError: it is not positive.
    """
    if given is None:
        return _milliseconds("OTEL_METRIC_EXPORT_INTERVAL", environment, 60.0)
    if not given > 0:
        raise ValueError(f"interval_seconds must be positive, got {given}.")
    return given


def disabled(environment: Mapping[str, str]) -> bool:
    """Whether ``OTEL_SDK_DISABLED`` switches all telemetry off."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _read(environment: Mapping[str, str], name: str) -> str | None:
    # An empty value is the same as an unset one, says the specification.
    return (
        environment.get(f"OTEL_EXPORTER_OTLP_LOGS_{name}")
        or environment.get(f"OTEL_EXPORTER_OTLP_{name}")
        or None
    )


def _url(environment: Mapping[str, str], endpoint: str | None) -> str:
    # Only the signal's own variable is a full URL; the general one is a base.
    if endpoint is None and (own := environment.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")):
        url = own
    else:
        base = endpoint or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT_ENDPOINT
        url = base.rstrip("/") + "/v1/logs"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"endpoint must be an http:// or https:// URL, got {url!r}.")
    return url


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    text = _read(environment, "HEADERS") or ""
    return {k.lower(): v for k, v in _pairs("OTEL_EXPORTER_OTLP_HEADERS", text).items()}


def request_timeout_seconds(environment: Mapping[str, str], signal: str) -> float:
    """``OTEL_EXPORTER_OTLP_TIMEOUT``, which is in milliseconds, for one signal.

    Raises:
        ValueError: it is not a positive number.
    """
    own = f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"
    name = own if environment.get(own) else "OTEL_EXPORTER_OTLP_TIMEOUT"
    return _milliseconds(name, environment, _DEFAULT_TIMEOUT_SECONDS)


def _milliseconds(name: str, environment: Mapping[str, str], default_seconds: float) -> float:
    text = environment.get(name)
    if not text:
        return default_seconds
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not milliseconds > 0:
        raise ValueError(f"{name} must be a positive number of milliseconds, got {text!r}.")
    return milliseconds / 1000


def _compression(environment: Mapping[str, str]) -> bool:
    text = _read(environment, "COMPRESSION") or "gzip"
    if text not in ("gzip", "none"):
        raise ValueError(f"OTEL_EXPORTER_OTLP_COMPRESSION must be 'gzip' or 'none', got {text!r}.")
    return text == "gzip"


def _pairs(name: str, text: str) -> dict[str, str]:
    """``key=value,key=value`` with percent-encoded values (W3C baggage without properties)."""
    pairs = {}
    for part in filter(str.strip, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"{name} must be a list of key=value, got {part!r}.")
        pairs[unquote(key.strip())] = unquote(value.strip())
    return pairs
