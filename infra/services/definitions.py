"""What each local service is: its command, its environment, its ports and the question that tells it is ready.

Flags and times were measured with SeaweedFS 4.48, MLflow 3.17, Prefect 3.8 and Ray 2.60; the comments say why each
unusual one is there.
"""

import hashlib
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from infra.services import leftovers, ready
from infra.services.keys import write_private
from psi0.connection import Secrets, connect, ray_token_file, services_folder
from psi0.errors import Psi0Error
from psi0.settings import Settings

POOL = "psi0-local"
"""Work pool of the local worker (the same name as in prefect.yaml)."""
GRPC_OFFSET = 10000
"""SeaweedFS opens a second port this far above each of its own."""

# Few, so that another shell does not make another environment, and with it a restart of every service.
_PASSED_ON = ("HOME", "USER", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_PASSED_TO_FLOWS = (
    *("PSI0_", "MUJOCO_", "PYOPENGL_", "CUDA_", "NVIDIA_", "NCCL_", "HF_", "OMP_", "DVC_"),
    # Keys and proxies of services elsewhere.
    *("AWS_", "MLFLOW_TRACKING_", "PREFECT_API_", "RAY_AUTH_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


@dataclass(frozen=True)
class Service:
    """One supervised process.

    Attributes:
        name: name in `psi0 status` and of its log.
        command: program and arguments.
        environment: everything the process sees besides what `_PASSED_ON` lets through.
        ports: port -> the setting that moves it.
        address: what a person opens or connects to.
        is_ready: asks the service itself, given when its process started [s since 1970]; True when it can be used.
        after: service that must be ready before this one is started.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    ports: dict[int, str]
    address: str
    is_ready: Callable[[float], bool]
    after: str | None = None
    folders: tuple[Path, ...] = field(default=())

    def script(self, stack: Path) -> str:
        """The start script: the whole environment spelled out, what an earlier start left ended, then exec."""
        environment = {**self.environment, leftovers.STACK: str(stack), leftovers.SERVICE: self.name}
        assignments = [f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
        clean = [sys.executable, "-m", "infra.services.leftovers", self.name]
        command = " ".join(shlex.quote(part) for part in self.command)
        return "\n".join(
            [
                "#!/bin/sh",
                f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
                f"export {' '.join(assignments)}",
                f"{' '.join(shlex.quote(part) for part in clean)}",
                f"exec {command}",
                "",
            ]
        )


def short_folder(stack: Path) -> Path:
    """Folder for sockets of a stack: a Unix socket's path may have 107 bytes, a checkout's path may have more."""
    name = hashlib.sha256(str(stack).encode()).hexdigest()[:10]
    folder = Path(tempfile.gettempdir()) / f"psi0-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise Psi0Error(f"{folder} belongs to somebody else; remove it or point TMPDIR elsewhere")
    folder.chmod(0o700)
    return folder


def program(name: str) -> str:
    """Path of a program of this virtual environment. Raises `Psi0Error` when the extra is not installed."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Psi0Error(f"{name} is not installed; run `make setup` (or pip install 'psi0[train]')")
    return found


def _base_environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    folders = [
        str(Path(sys.executable).parent),
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
    ]
    git = shutil.which("git")
    if git and str(Path(git).parent) not in folders:
        folders.append(str(Path(git).parent))
    return {**environment, "PATH": ":".join(folders), "LANG": "C.UTF-8", "DO_NOT_TRACK": "1"}


def supervisor_environment(stack: Path) -> dict[str, str]:
    """What supervisor itself sees, and every service inherits: nothing of the shell that `psi0 up` was typed in."""
    return {**_base_environment(), leftovers.STACK: str(stack), leftovers.SERVICE: "supervisor"}


def services(config: Settings, secrets: Secrets) -> list[Service]:
    """The services that run here: all of them, less those whose address the settings name elsewhere."""
    stack = services_folder(config)
    built = [_prefect_worker(config, stack), _watch(config, stack)]
    if config.prefect_api is None:
        built.insert(0, _prefect(config, stack))
    if config.mlflow_uri is None:
        built.insert(0, _mlflow(config, secrets, stack))
    if config.s3_endpoint is None:
        built.insert(0, _seaweed(config, secrets, stack))
    if config.ray_address is None:
        built.append(_ray(config, stack))
    return built


def _seaweed(config: Settings, secrets: Secrets, stack: Path) -> Service:
    host, first = config.host, config.s3_internal_port
    identity = {
        "name": "psi0",
        "credentials": [{"accessKey": secrets.s3_access_key, "secretKey": secrets.s3_secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    keys = stack / "s3-keys.json"
    write_private(keys, json.dumps({"identities": [identity]}))
    data = stack / "s3"
    ports = {config.s3_port: "PSI0_S3_PORT", config.s3_port + GRPC_OFFSET: "PSI0_S3_PORT"}
    for port in (first, first + 1, first + 2):
        ports |= {port: "PSI0_S3_INTERNAL_PORT", port + GRPC_OFFSET: "PSI0_S3_INTERNAL_PORT"}
    command = [
        *(program("weed"), "-logtostderr=true", "server", f"-dir={data}", f"-ip={host}", f"-ip.bind={host}"),
        *(f"-master.port={first}", f"-volume.port={first + 1}", f"-filer.port={first + 2}"),
        *("-s3", f"-s3.port={config.s3_port}", f"-s3.config={keys}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        # Each bucket takes up to seven volumes and the default limit is eight: the second bucket could not be written.
        *("-volume.max=0", "-master.volumeSizeLimitMB=1024"),
        # Ten seconds by default, which every restart would wait for.
        "-master.electionTimeout=1s",
        "-volume.preStopSeconds=0",
        # Otherwise the filer hands out any object without a key.
        "-filer.disableHttp=true",
    ]
    url = f"http://{host}:{config.s3_port}"
    return Service(
        "s3",
        tuple(command),
        _base_environment(),
        ports,
        url,
        lambda since: ready.http(f"{url}/healthz"),
        folders=(data,),
    )


def _mlflow(config: Settings, secrets: Secrets, stack: Path) -> Service:
    data = stack / "mlflow"
    url = f"http://{config.host}:{config.mlflow_port}"
    connection = connect(config)
    command = (
        *(
            program("mlflow"),
            "server",
            "--host",
            config.host,
            "--port",
            str(config.mlflow_port),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", config.mlflow_database or f"sqlite:///{data / 'mlflow.db'}"),
        *("--artifacts-destination", f"s3://{config.bucket}/mlflow"),
    )
    environment = {
        **_base_environment(),
        **connection.s3_environment(),
        "MLFLOW_S3_ENDPOINT_URL": connection.s3_endpoint,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secrets.mlflow_encryption_key,
        # `watch` listens on this machine, without TLS; by default MLflow calls neither.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        # How long a webhook that was just registered may go unnoticed [s].
        "MLFLOW_WEBHOOK_CACHE_TTL": "5",
    }
    ports = {config.mlflow_port: "PSI0_MLFLOW_PORT"}
    return Service(
        "mlflow", command, environment, ports, url, lambda since: ready.http(f"{url}/health"), folders=(data,)
    )


def prefect_environment(config: Settings) -> dict[str, str]:
    """Variables of everything that is Prefect: its state below the stack's folder, nobody told about it."""
    data = services_folder(config) / "prefect"
    return {
        "PREFECT_HOME": str(data),
        "PREFECT_API_URL": connect(config).prefect_api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
    }


def _prefect(config: Settings, stack: Path) -> Service:
    data = stack / "prefect"
    url = f"http://{config.host}:{config.prefect_port}"
    command = (
        *(program("prefect"), "server", "start", "--host", config.host),
        *("--port", str(config.prefect_port), "--log-level", "WARNING"),
    )
    environment = {
        **_base_environment(),
        **prefect_environment(config),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{data / 'prefect.db'}",
    }
    ports = {config.prefect_port: "PSI0_PREFECT_PORT"}
    return Service(
        "prefect",
        command,
        environment,
        ports,
        url,
        lambda since: ready.http(f"{url}/api/health"),
        folders=(data,),
    )


def _flow_environment(config: Settings) -> dict[str, str]:
    """What a process that runs or starts flows sees: the settings of the shell, and where the services are."""
    return {
        **_base_environment(),
        **{name: value for name, value in os.environ.items() if name.startswith(_PASSED_TO_FLOWS)},
        **connect(config).environment(),
        **prefect_environment(config),
        "PYTHONUNBUFFERED": "1",
    }


def _prefect_worker(config: Settings, stack: Path) -> Service:
    data = stack / "prefect"
    connection = connect(config)
    environment = {
        **_flow_environment(config),
        "PSI0_CHECKOUT": str(Path.cwd()),
        # Flow runs start within three seconds of being asked for, not ten; every question costs the server processor
        # time that training could use.
        "PREFECT_WORKER_QUERY_SECONDS": "3",
        "DVC_NO_ANALYTICS": "1",
    }
    command = (
        program("prefect"),
        "worker",
        "start",
        "--pool",
        POOL,
        "--type",
        "process",
        "--name",
        "psi0-worker",
    )
    api = connection.prefect_api
    return Service(
        "worker",
        command,
        environment,
        {},
        f"work pool {POOL}",
        lambda since: ready.worker_online(api, POOL, since),
        after="prefect" if config.prefect_api is None else None,
        folders=(data,),
    )


def _watch(config: Settings, stack: Path) -> Service:
    host, port, local = config.host, config.watch_port, config.mlflow_uri is None
    url = f"http://{host}:{port}"
    return Service(
        "watch",
        (sys.executable, "-m", "flows.watch"),
        {**_flow_environment(config), "PYTHONPATH": str(Path(__file__).parents[2])},
        {port: "PSI0_WATCH_PORT"},
        url,
        # An MLflow elsewhere that is away for a while must not keep the other services from being used.
        lambda since: ready.http(f"{url}/health") if local else ready.tcp(host, port),
        after="mlflow" if local else None,
    )


def _ray(config: Settings, stack: Path) -> Service:
    port = config.ray_port
    command = (
        *(program("ray"), "start", "--head", "--block", f"--node-ip-address={config.host}", f"--port={port}"),
        *(f"--ray-client-server-port={port + 1}", f"--dashboard-agent-listen-port={port + 2}"),
        # Any free ports for workers: the default range covers SeaweedFS's.
        *("--min-worker-port=0", "--max-worker-port=0"),
        *(f"--num-cpus={os.cpu_count() or 1}", "--disable-usage-stats", "--include-dashboard=false"),
        *("--object-store-memory=500000000", f"--temp-dir={short_folder(stack) / 'ray'}"),
    )
    environment = {
        **_base_environment(),
        # Without it Ray replaces a loopback address by the outer one and listens to the world.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(ray_token_file(config)),
        # Training is what the machine is there for; at Ray's default of 15 anything else that runs takes its cores.
        "RAY_worker_niceness": "0",
        # An actor of Ray Train outlives its run; draining would wait thirty seconds for it.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2",
        "PYTHONPATH": str(Path.cwd()),
    }
    ports = {port: "PSI0_RAY_PORT", port + 1: "PSI0_RAY_PORT", port + 2: "PSI0_RAY_PORT"}
    address = f"{config.host}:{port}"
    return Service("ray", command, environment, ports, address, lambda since: ready.tcp(config.host, port))
