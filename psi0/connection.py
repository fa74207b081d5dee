"""Where the services are and how to sign in: settings, and the keys that `psi0 up` made, in one value.

Everything that talks to S3, MLflow, Prefect or Ray asks here, so that addresses elsewhere are a matter of settings
alone. Nothing here imports a client library.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.settings import Settings, settings


class Secrets(BaseModel):
    """Keys of the local services, made at their first start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(1, description="Version of this file's layout")
    s3_access_key: str = Field(description="Access key of the local S3 server")
    s3_secret_key: str = Field(description="Secret key of the local S3 server")
    ray_token: str = Field(description="Token of the local Ray head, 64 hexadecimal digits")
    mlflow_encryption_key: str = Field(description="Key that MLflow encrypts stored webhook secrets with")
    webhook_secret: str = Field("", description="Key that MLflow signs its webhooks to `watch` with")


@dataclass(frozen=True)
class Connection:
    """Addresses and keys of the services as this process sees them; `None` keys mean the client's own defaults."""

    s3_endpoint: str
    s3_region: str
    s3_access_key: str | None
    s3_secret_key: str | None
    bucket: str
    mlflow_uri: str
    prefect_api: str
    ray_address: str
    ray_token_file: Path | None

    def s3_environment(self) -> dict[str, str]:
        """Variables that boto3, s3fs and MLflow read."""
        environment = {"AWS_ENDPOINT_URL_S3": self.s3_endpoint, "AWS_DEFAULT_REGION": self.s3_region}
        if self.s3_access_key and self.s3_secret_key:
            environment["AWS_ACCESS_KEY_ID"] = self.s3_access_key
            environment["AWS_SECRET_ACCESS_KEY"] = self.s3_secret_key
        return environment

    def ray_environment(self) -> dict[str, str]:
        """Variables that a Ray client needs; the token and the loopback switch only towards the local head."""
        environment = {"PSI0_RAY_ADDRESS": self.ray_address}
        if self.ray_token_file is not None:
            environment["RAY_AUTH_MODE"] = "token"
            environment["RAY_AUTH_TOKEN_PATH"] = str(self.ray_token_file)
            environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        return environment

    def environment(self) -> dict[str, str]:
        """Everything a child process needs to reach the services; only strings, nothing that changes a result."""
        return {
            **self.s3_environment(),
            **self.ray_environment(),
            "MLFLOW_TRACKING_URI": self.mlflow_uri,
            "PREFECT_API_URL": self.prefect_api,
        }


def services_folder(config: Settings | None = None) -> Path:
    """Absolute folder with state, configuration, logs and keys of the local services."""
    return (config or settings()).home.absolute() / "services"


def secrets_file(config: Settings | None = None) -> Path:
    """File with the keys of the local services, mode 600."""
    return services_folder(config) / "secrets.json"


def ray_token_file(config: Settings | None = None) -> Path:
    """File with the Ray token alone, mode 600, as Ray wants it."""
    return services_folder(config) / "ray-token"


def read_secrets(config: Settings | None = None) -> Secrets | None:
    """The keys of the local services, or None before their first start. Raises `Psi0Error` for a broken file."""
    path = secrets_file(config)
    if not path.exists():
        return None
    try:
        return Secrets.model_validate(read_json(path))
    except ValidationError as error:
        raise Psi0Error(f"{path} does not hold valid keys ({error.error_count()} problems); restore it") from None


def connect(config: Settings | None = None) -> Connection:
    """Addresses and keys of this process: what the settings name, the local services otherwise."""
    config = config or settings()
    secrets = read_secrets(config)
    access = config.s3_access_key
    secret = config.s3_secret_key.get_secret_value() if config.s3_secret_key else None
    if secrets is not None and config.s3_endpoint is None:
        access, secret = access or secrets.s3_access_key, secret or secrets.s3_secret_key
    local_ray = config.ray_address is None or config.ray_address == f"{config.host}:{config.ray_port}"
    return Connection(
        s3_endpoint=config.s3_endpoint or f"http://{config.host}:{config.s3_port}",
        s3_region=config.s3_region,
        s3_access_key=access,
        s3_secret_key=secret,
        bucket=config.bucket,
        mlflow_uri=config.mlflow_uri or f"http://{config.host}:{config.mlflow_port}",
        prefect_api=config.prefect_api or f"http://{config.host}:{config.prefect_port}/api",
        ray_address=config.ray_address or f"{config.host}:{config.ray_port}",
        ray_token_file=ray_token_file(config) if local_ray and secrets is not None else None,
    )
