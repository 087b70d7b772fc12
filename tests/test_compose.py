"""The compose file, as far as it can be judged without running it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

every_service = pytest.mark.parametrize("name", SERVICES)


def test_it_runs_the_service_prometheus_alertmanager_and_grafana() -> None:
    assert set(SERVICES) == {"service", "prometheus", "alertmanager", "grafana"}


@every_service
def test_every_image_is_pinned_to_a_full_version(name: str) -> None:
    assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@every_service
def test_every_port_is_published_on_the_loopback_interface(name: str) -> None:
    assert SERVICES[name]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


@every_service
def test_every_container_is_read_only_unprivileged_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if "build" in service:
        assert "\nHEALTHCHECK " in (ROOT / service["build"]["dockerfile"]).read_text()
    else:
        assert service["healthcheck"]["test"][0] == "CMD"


def test_the_service_runs_as_an_ordinary_user_from_files_that_it_cannot_write() -> None:
    lines = (ROOT / "service/Dockerfile").read_text().splitlines()
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]

    [user] = [line.split()[1] for line in final if line.startswith("USER ")]
    assert int(user.split(":")[0]) > 0
    after = final[final.index(f"USER {user}") :]
    assert not [line for line in after if line.startswith(("RUN ", "COPY ", "ADD "))]
    copies = [line for line in final if line.startswith(("COPY ", "ADD "))]
    assert copies
    assert not any("--chown" in line or "--chmod" in line for line in copies)
    written = {volume.split(":")[1] for volume in SERVICES["service"]["volumes"]}
    assert written == {line.split()[1] for line in final if line.startswith("VOLUME ")}


@every_service
def test_no_container_may_do_more_than_an_ordinary_one(name: str) -> None:
    more = {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode", "userns_mode", "user"}

    assert not more & SERVICES[name].keys()
    assert not any("docker.sock" in volume for volume in SERVICES[name]["volumes"])


def test_no_secret_is_written_into_the_files() -> None:
    for file in ("docker-compose.yml", "service/Dockerfile"):
        text = (ROOT / file).read_text()
        assert not re.search(r"(?i)(password|secret|token)\w*\s*[:=]\s*['\"]?\w", text), file


@every_service
def test_what_is_mounted_exists(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode == ["ro"], f"{target} could be written from inside"
        else:
            assert source in COMPOSE["volumes"]


def test_configuration_files_are_named_where_they_are_mounted() -> None:
    mounts = {
        target: ROOT / source
        for service in SERVICES.values()
        for source, target, *_ in (volume.split(":") for volume in service["volumes"])
        if source.startswith(".")
    }
    named = re.findall(
        r"/etc/[\w./-]+\.(?:yml|json)", (ROOT / "docker-compose.yml").read_text()
    ) + [provider["options"]["path"] for provider in _provisioned("dashboards", "providers")]
    assert len(named) >= 4
    for path in named:
        target = next(target for target in mounts if path.startswith(target))
        assert (mounts[target] / path.removeprefix(target).lstrip("/")).exists(), path


def test_the_image_is_built_from_the_service_s_dockerfile() -> None:
    build = SERVICES["service"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).exists()


def test_hosts_and_ports_in_configurations_are_those_of_the_services() -> None:
    prometheus = yaml.safe_load((ROOT / "alerts/prometheus.yml").read_text())
    [datasource] = _provisioned("datasources", "datasources")
    targets = [
        target
        for part in (*prometheus["scrape_configs"], *prometheus["alerting"]["alertmanagers"])
        for config in part["static_configs"]
        for target in config["targets"]
    ]
    for address in (*targets, datasource["url"].removeprefix("http://")):
        host, port = address.split(":")
        assert any(p.endswith(f":{port}") for p in SERVICES[host]["ports"]), address


def test_grafana_knows_the_scrape_interval() -> None:
    prometheus = yaml.safe_load((ROOT / "alerts/prometheus.yml").read_text())
    [datasource] = _provisioned("datasources", "datasources")
    assert datasource["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


def test_the_webhook_address_is_put_into_the_configuration_whatever_it_contains(
    tmp_path: Path,
) -> None:
    address = r"https://example.org/hook?a=1&b=x|y\z"
    [command] = SERVICES["alertmanager"]["command"]
    prepare, start = command.split(" && exec ")
    script = (
        prepare.replace("$$", "$")
        .replace("/etc/penaltyscope/alerts", str(ROOT / "alerts"))
        .replace("> /tmp/", f"> {tmp_path}/")
    )
    subprocess.run(["/bin/sh", "-c", script], env={"PENALTYSCOPE_WEBHOOK_URL": address}, check=True)
    config = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())
    [receiver] = config["receivers"]
    assert [hook["url"] for hook in receiver["webhook_configs"]] == [address]
    assert "--config.file=/tmp/alertmanager.yml" in start


def _provisioned(kind: str, key: str) -> list[dict[str, Any]]:
    return [
        entry
        for file in sorted((ROOT / "dashboards/provisioning" / kind).glob("*.yml"))
        for entry in yaml.safe_load(file.read_text())[key]
    ]
