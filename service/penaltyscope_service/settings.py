"""What can be set, by environment or flag, with its default and its limits."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

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

    # Before host, whose check needs it.
    allow_remote: Annotated[
        bool, Field(description="Allow a host that other machines can reach.")
    ] = False
    host: Annotated[str, Field(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int,
        Field(ge=0, le=65535, description="Port to listen on; 0 takes a free one."),
    ] = 4318
    data_dir: Annotated[
        Path, Field(description="Folder of the history; made where it is missing.")
    ] = Path("penaltyscope-data")
    max_body_bytes: Annotated[
        int,
        Field(ge=1024, description="Largest request body, before and after decompression."),
    ] = 16 * 1024**2
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

    @field_validator("host")
    @classmethod
    def _stay_local(cls, host: str, info: ValidationInfo) -> str:
        if not info.data.get("allow_remote") and not _is_loopback(host):
            raise ValueError(
                "must be a loopback address, since there is no authentication yet and everyone "
                "who can reach the port can read and write every run "
                f"({flag('allow_remote')} or {variable('allow_remote')}=true listens all the same)"
            )
        return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
