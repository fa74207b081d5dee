"""Where it is made: addresses, credentials and scratch folders, from `PSI0_*` variables and `.env`.

A setting never changes a result; what does is in `params.yaml`.
"""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from psi0.errors import Psi0Error
from psi0.explain import did_you_mean


class Settings(BaseSettings):
    """Every setting; unset addresses mean the local services of `psi0 up`."""

    model_config = SettingsConfigDict(env_prefix="PSI0_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(Path(".psi0"), description="Scratch of this checkout: checkpoints, service state, logs")
    host: str = Field("127.0.0.1", description="Address the local services bind")
    s3_port: int = Field(8333, description="Port of the local S3 server; it also opens port + 10000")
    s3_internal_port: int = Field(9333, description="First of three ports the S3 server uses inside (also + 10000)")
    mlflow_port: int = Field(5000, description="Port of the local MLflow server")
    prefect_port: int = Field(4200, description="Port of the local Prefect server")
    ray_port: int = Field(6379, description="Port of the local Ray head")
    watch_port: int = Field(8790, description="Port on which the local service `watch` hears of moved aliases")
    s3_endpoint: str | None = Field(None, description="Address of an S3 server elsewhere (http://host:port)")
    s3_region: str = Field("us-east-1", description="Region sent to the S3 server")
    s3_access_key: str | None = Field(None, description="S3 access key; unset: the generated local one")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret key; unset: the generated local one")
    bucket: str = Field("psi0", description="Bucket for DVC, MLflow artifacts and bundles, each under its prefix")
    mlflow_uri: str | None = Field(None, description="Address of an MLflow server elsewhere")
    mlflow_database: str | None = Field(None, description="Database URL of the local MLflow server; unset: SQLite")
    prefect_api: str | None = Field(None, description="Address of a Prefect API elsewhere")
    ray_address: str | None = Field(None, description="Address of a Ray cluster; unset: the local head, or none")
    evaluate_on: Literal["processes", "ray"] = Field(
        "processes", description="Where episodes run: processes of this machine, or workers of the Ray cluster"
    )
    cache_gib: float = Field(8, ge=0, description="Decoded images kept per dataset at most [GiB]")
    feature_cache_gib: float = Field(
        50, ge=0, description="Features of a frozen System-2 kept on disk per dataset at most [GiB]"
    )
    signing_key: Path | None = Field(None, description="Private key (PEM, P-256) that signs bundles; unset: made here")
    trusted_keys: Annotated[tuple[Path, ...] | None, NoDecode] = Field(
        None,
        description="Public keys whose bundles are used: files, or folders of *.pub, separated as in PATH; "
        "unset: this machine's own key alone",
    )
    log_every: int = Field(50, gt=0, description="Training steps between progress lines where there is no terminal")

    @field_validator("trusted_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


_PREFIX = "PSI0_"
_MARKS = ("CHECKOUT", "STACK", "STACK_SERVICE", "STAGE_RUN", "ALLOW_CUDA_TORCH")
"""What else may stand behind the prefix: marks that psi0 puts on its own processes, and a word for `make setup`."""


def _refuse_unknown() -> None:
    known = [_PREFIX + name.upper() for name in Settings.model_fields]
    marks = [_PREFIX + name for name in _MARKS]
    for place, names in ((".env", dotenv_values(".env")), ("the environment", os.environ)):
        for name in (name.upper() for name in names):
            if name.startswith(_PREFIX) and name not in (*known, *marks):
                raise Psi0Error(f"{place}: no setting is called {name}; {did_you_mean(name, known)}")


@cache
def settings() -> Settings:
    """The settings of this process. Raises `Psi0Error` naming a variable that is unknown or does not fit."""
    _refuse_unknown()
    try:
        return Settings()
    except ValidationError as error:
        problems = [f"PSI0_{str(p['loc'][0]).upper()}: {p['msg']} (found {p['input']!r})" for p in error.errors()]
        raise Psi0Error("\n".join(problems)) from None
