"""Checks that a Prometheus scrapes the service."""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from urllib3.exceptions import HTTPError

from penaltyscope_service.doctor._finding import Finding
from penaltyscope_service.doctor._visit import Visit

_SHOWN: Final = 5
_LONGEST_SECONDS: Final = 30.0
"""The service's window maxima show a spike for so long by default."""
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def examine_prometheus(prometheus: Visit, service: Visit) -> Iterator[Finding]:
    """Whether the service is among its targets, is up, and is scraped often enough."""
    try:
        answer = prometheus.get("/api/v1/targets?state=active", token=prometheus.token)
        targets = answer.json()["data"]["activeTargets"]
    except (HTTPError, ValueError, LookupError, TypeError) as error:
        yield Finding(
            "fail",
            "prometheus",
            f"{prometheus.url} cannot be asked for its targets: {type(error).__name__}: {error}",
            "check the address",
        )
        return
    target = _find(targets, service)
    if target is None:
        known = ", ".join(str(target["scrapeUrl"]) for target in targets[:_SHOWN]) or "none"
        yield Finding(
            "fail",
            "prometheus",
            f"port {_port(service.parts)} is not among its targets ({known})",
            "add the job of alerts/prometheus.yml to its scrape_configs",
        )
        return
    yield _up(target)
    yield _often(target)


def _find(targets: list[dict[str, Any]], service: Visit) -> dict[str, Any] | None:
    """The target of the service's address, else one of its port: containers have other names."""
    port = _port(service.parts)
    same_port = [t for t in targets if _port(urlsplit(t["scrapeUrl"])) == port]
    same = [t for t in same_port if urlsplit(t["scrapeUrl"]).hostname == service.parts.hostname]
    return next(iter(same or same_port), None)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _up(target: dict[str, Any]) -> Finding:
    url, health = target["scrapeUrl"], target["health"]
    if health == "up":
        return Finding("ok", "prometheus", f"scrapes {url}")
    if health == "unknown":
        return Finding("warn", "prometheus", f"has not scraped {url} yet", "ask again in a minute")
    return Finding(
        "fail",
        "prometheus",
        f"cannot scrape {url}: {target['lastError']}",
        "check network, authorization and tls_config of the job",
    )


def _often(target: dict[str, Any]) -> Finding:
    text = str(target["scrapeInterval"])
    if _seconds(text) <= _LONGEST_SECONDS:
        return Finding("ok", "scrapes", f"every {text}")
    return Finding(
        "warn",
        "scrapes",
        f"every {text}, so that spikes may be missed",
        f"set scrape_interval to {_LONGEST_SECONDS:g}s or less, or --window-seconds to more",
    )


def _seconds(text: str) -> float:
    """Of a duration as Prometheus writes it, such as ``1m30s``; days and more are just long."""
    parts = re.findall(r"(\d+)(ms|[a-z])", text)
    return sum(float(number) * _UNITS.get(unit, 86_400.0) for number, unit in parts)
