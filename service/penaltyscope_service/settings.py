"""What can be set, by environment or flag, with its default and its limits."""

import ipaddress
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from penaltyscope_service.observatory import Limits
from penaltyscope_service.tls import Tls

HISTORY_FILE: Final = "history.sqlite"
"""In the folder of the history."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"PENALTYSCOPE_{name.upper()}"


def flag(name: str) -> str:
    """The command line flag of a setting."""
    return f"--{name.replace('_', '-')}"


class Settings(BaseSettings):
    """All settings of the service."""

    model_config = SettingsConfigDict(env_prefix=variable(""), frozen=True)

    # Before host, whose check needs both.
    tokens_file: Annotated[
        Path | None,
        Field(description="Tokens, from penaltyscope token create; without, nobody needs one."),
    ] = None
    allow_remote: Annotated[
        bool, Field(description="Allow a host that other machines can reach, without tokens.")
    ] = False
    host: Annotated[str, Field(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    tls_certificate: Annotated[
        Path | None, Field(description="Certificate chain (PEM); with it, TLS is spoken.")
    ] = None
    tls_key: Annotated[
        Path | None, Field(description="Key of the certificate (PEM).", validate_default=True)
    ] = None
    tls_client_ca: Annotated[
        Path | None,
        Field(description="Authorities (PEM); with them, clients need a certificate of theirs."),
    ] = None
    host_names: Annotated[
        str,
        Field(
            description="Names, comma-separated, under which a loopback host is reached, as by a "
            "proxy before it; localhost and addresses are."
        ),
    ] = ""
    port: Annotated[
        int,
        Field(ge=0, le=65535, description="Port to listen on; 0 takes a free one."),
    ] = 4318
    grpc: Annotated[
        bool, Field(description="Take OTLP/gRPC as well; needs penaltyscope[grpc].")
    ] = False
    grpc_port: Annotated[
        int, Field(ge=0, le=65535, description="Port of OTLP/gRPC; 0 takes a free one.")
    ] = 4317
    data_dir: Annotated[
        Path, Field(description="Folder of the history; made where it is missing.")
    ] = Path("penaltyscope-data")
    max_body_bytes: Annotated[
        int,
        Field(ge=1024, description="Largest request body, before and after decompression."),
    ] = 16 * 1024**2
    max_connections: Annotated[
        int, Field(ge=1, description="Most HTTP connections before further ones get 503.")
    ] = 16_384
    head_seconds: Annotated[
        Seconds, Field(description="Most time for the head of a request to come.")
    ] = 10.0
    body_seconds: Annotated[
        Seconds, Field(description="Most time for a body to come, and for a reply to be read.")
    ] = 30.0
    queue_requests: Annotated[
        int, Field(ge=1, description="Most requests that wait to be written before others get 503.")
    ] = 1024
    queue_bytes: Annotated[
        int, Field(ge=1, description="Most bytes that wait to be written before others get 503.")
    ] = 64 * 1024**2
    series_limit: Annotated[
        int, Field(ge=1, description="Most Prometheus series of runs; further ones are refused.")
    ] = 200_000
    terminal_grace_seconds: Annotated[
        Seconds, Field(description="How long the series of a run outlive its end.")
    ] = 3600.0
    stall_floor_seconds: Annotated[
        Seconds, Field(description="A live run without a step for this long may be stalled.")
    ] = 60.0
    lost_after_seconds: Annotated[
        Seconds, Field(description="A run that is silent for this long is lost.")
    ] = 30.0
    window_seconds: Annotated[
        Seconds, Field(description="Time that window maxima cover: at least two scrape intervals.")
    ] = 30.0
    gap_seconds: Annotated[
        Seconds, Field(description="An evaluation that is overdue for this long is missing.")
    ] = 300.0
    retention_days: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="A run that is over, or lost, is deleted so long after its last record.",
        ),
    ] = 90.0
    retention_runs: Annotated[
        int, Field(ge=1, description="Most runs that are kept; those under way always are.")
    ] = 10_000
    retention_bytes: Annotated[
        int,
        Field(
            ge=1024**2,
            description="Largest history: the oldest runs are deleted, then the oldest steps.",
        ),
    ] = 50 * 1024**3
    synchronous: Annotated[
        Literal["NORMAL", "FULL"],
        Field(
            description="NORMAL keeps steps through a crash of the service, FULL of the machine."
        ),
    ] = "NORMAL"

    @field_validator("tls_key")
    @classmethod
    def _belongs_to_a_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if (key is None) != (info.data.get("tls_certificate") is None):
            raise ValueError(f"must be given together with {flag('tls_certificate')}")
        return key

    @field_validator("tls_client_ca")
    @classmethod
    def _needs_a_certificate(cls, ca: Path | None, info: ValidationInfo) -> Path | None:
        if ca is not None and info.data.get("tls_certificate") is None:
            raise ValueError(f"must be given together with {flag('tls_certificate')}")
        return ca

    @property
    def tls(self) -> Tls | None:
        """``None``: plain text."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return Tls(certificate=self.tls_certificate, key=self.tls_key, client_ca=self.tls_client_ca)

    @property
    def limits(self) -> Limits:
        """Of the observatory."""
        return Limits(**{limit.name: getattr(self, limit.name) for limit in fields(Limits)})

    @property
    def own_names(self) -> frozenset[str] | None:
        """Names by which the service may be reached; ``None``: by any."""
        if not _is_loopback(self.host):
            return None
        names = (name.strip().lower() for name in self.host_names.split(","))
        return frozenset(name for name in names if name)

    @field_validator("host")
    @classmethod
    def _stay_local(cls, host: str, info: ValidationInfo) -> str:
        permitted = info.data.get("allow_remote") or info.data.get("tokens_file")
        if not permitted and not _is_loopback(host):
            raise ValueError(
                "must be a loopback address, since without tokens everyone who can reach the port "
                f"can read and write every run ({flag('tokens_file')} asks for tokens; "
                f"{flag('allow_remote')} or {variable('allow_remote')}=true listens all the same)"
            )
        return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
