"""`psi0 up`, `status`, `logs` and `down`: the local services as one thing."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from infra.services import leftovers, ready
from infra.services.clients import write_client_configuration
from infra.services.definitions import Service, services
from infra.services.keys import ensure_secrets
from infra.services.supervision import Supervisor, tail
from psi0.connection import services_folder
from psi0.errors import Psi0Error
from psi0.processes import end
from psi0.settings import Settings, settings

_READY_SECONDS = 180.0
_FLOW_PATIENCE_SECONDS = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Status:
    """One line of `psi0 status`."""

    name: str
    state: str
    address: str
    detail: str


def up(say: Say = print, config: Settings | None = None, only: Collection[str] | None = None) -> None:
    """Start what does not run yet and return when every service can be used; `say` hears one line per service.

    Args:
        say: called with each line.
        config: other settings than this process's.
        only: names of the services to start, where not all are wanted; the others stay as they are.

    Raises:
        Psi0Error: a port is taken by a foreign process (before anything starts), a service does not become ready,
            or another `psi0 up` is at work.
    """
    config = config or settings()
    stack = services_folder(config)
    stack.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(stack / "up.lock", timeout=_READY_SECONDS):
            _up(say, config, stack, only)
    except Timeout:
        raise Psi0Error(f"another `psi0 up` or `psi0 down` is at work in {stack}; wait for it") from None


def _up(say: Say, config: Settings, stack: Path, only: Collection[str] | None) -> None:
    supervisor = Supervisor(stack)
    known = services(config, ensure_secrets(config))
    _check_each_has_its_own(known)
    wanted = [service for service in known if only is None or service.name in only]
    running = {name for name, process in supervisor.processes().items() if process.up}
    if not running:
        end(leftovers.of_stack(str(stack)), patience_seconds=5)
    for service in wanted:
        if service.name not in running:
            _check_ports(service, config.host)
    changed = [name for name in supervisor.changed(wanted) if name in running]
    if "worker" in changed and _flow_runs(stack):
        raise Psi0Error("settings changed while a recipe runs; let it finish, or `psi0 down` and `psi0 up`")
    supervisor.configure(known, only)
    if supervisor.running():
        supervisor.stop(changed)
        supervisor.reread()
    else:
        supervisor.start()
    _start_in_order(say, wanted, supervisor, quiet=running.difference(changed))
    write_client_configuration(config)


def _check_each_has_its_own(known: list[Service]) -> None:
    taken: dict[int, Service] = {}
    for service in known:
        for port, setting in service.ports.items():
            other = taken.setdefault(port, service)
            if other is not service:
                raise Psi0Error(
                    f"{other.name} and {service.name} would both listen on port {port}; put another one into {setting}"
                    f" or {other.ports[port]} (S3 and Ray take several in a row)"
                )


def _check_ports(service: Service, host: str) -> None:
    for port, setting in service.ports.items():
        if not ready.free(host, port):
            owner = leftovers.listener(port)
            who = f"process {owner.pid} ({' '.join(owner.cmdline())[:60]})" if owner else "another process"
            raise Psi0Error(
                f"port {port}, which {service.name} needs, is busy: {who} listens there; "
                f"end it, or put another port into {setting} (in .env). Nothing was started"
            )


def _start_in_order(say: Say, wanted: list[Service], supervisor: Supervisor, quiet: set[str]) -> None:
    """Launch each service as soon as the one it waits for is ready, and wait for all."""
    begin = time.monotonic()
    waiting = {service.name: service for service in wanted}
    done: set[str] = set()
    launched: set[str] = set()
    while waiting:
        processes = supervisor.processes()
        for name, service in list(waiting.items()):
            process = processes[name]
            if service.after and service.after in waiting:
                continue
            if not process.up and process.state != "BACKOFF":
                # An earlier start may have given up for a reason that is gone: FATAL counts from this launch on.
                if process.state == "FATAL" and name in launched:
                    raise Psi0Error(_failure(supervisor, name, "keeps ending"))
                launched.add(name)
                supervisor.launch(name)
            elif process.up and service.is_ready(process.started - 1):
                _check_owner(service, str(supervisor.stack))
                if name not in quiet:
                    say(f"{name:8} ready at {service.address} after {time.monotonic() - begin:.1f} s")
                done.add(name)
                del waiting[name]
        if waiting:
            if time.monotonic() - begin > _READY_SECONDS:
                raise Psi0Error(_failure(supervisor, next(iter(waiting)), f"is not ready after {_READY_SECONDS:.0f} s"))
            time.sleep(0.2)
    if quiet.issuperset(done):
        say(f"all {len(done)} services are up")


def _check_owner(service: Service, stack: str) -> None:
    """What answers on a port must be ours: a foreign server would keep health checks green."""
    for port in list(service.ports)[:1]:
        owner = leftovers.listener(port)
        if owner is not None and not leftovers.belongs(owner, stack):
            raise Psi0Error(
                f"{service.name}: process {owner.pid}, which `psi0 up` did not start, answers on port {port}; "
                f"end it, or put another port into {service.ports[port]} (in .env)"
            )


def _failure(supervisor: Supervisor, name: str, what: str) -> str:
    last = tail(supervisor.log(name), 5)
    return f"{name} {what}; `psi0 logs {name}` shows its log, which ends:\n{last}"


def _flow_runs(stack: Path) -> list[psutil.Process]:
    """Processes that the worker started."""
    workers = leftovers.of_stack(str(stack), "worker")
    keeper = Supervisor(stack).processes().get("worker")
    return [process for process in workers if keeper is None or process.pid != keeper.pid]


def status(config: Settings | None = None) -> list[Status]:
    """Every local service, running or not, and whether it answers."""
    config = config or settings()
    stack = services_folder(config)
    if not stack.exists():
        return []
    processes = Supervisor(stack).processes()
    lines = []
    for service in services(config, ensure_secrets(config)):
        process = processes.get(service.name)
        if process is None or not process.up:
            state = "down" if process is None or process.state == "STOPPED" else process.state.lower()
            lines.append(Status(service.name, state, service.address, "`psi0 up` starts it"))
        else:
            answers = service.is_ready(process.started - 1)
            lines.append(Status(service.name, "ready" if answers else "starting", service.address, f"{process.detail}"))
    return lines


def log_file(name: str, config: Settings | None = None) -> Path:
    """Log of a service. Raises `Psi0Error` for a name that does not exist."""
    stack = services_folder(config)
    logs = sorted((stack / "logs").glob("*.log"))
    path = stack / "logs" / f"{name}.log"
    if path not in logs:
        known = ", ".join(log.stem for log in logs) or "none yet (`psi0 up`)"
        raise Psi0Error(f"no service {name!r} has a log here; known: {known}")
    return path


def down(say: Say = print, config: Settings | None = None) -> None:
    """End what `up` started, children of killed parents too, and nothing else. State stays."""
    config = config or settings()
    stack = services_folder(config)
    if not stack.exists():
        say("nothing runs")
        return
    try:
        with FileLock(stack / "up.lock", timeout=_READY_SECONDS):
            _down(say, stack)
    except Timeout:
        raise Psi0Error(f"another `psi0 up` or `psi0 down` is at work in {stack}; wait for it") from None


def _down(say: Say, stack: Path) -> None:
    supervisor = Supervisor(stack)
    running = [name for name, process in supervisor.processes().items() if process.state not in ("STOPPED", "EXITED")]
    if running:
        # Flow runs first, while they can still say good-bye to Prefect and end their stages.
        supervisor.stop(["worker"])
        end(leftovers.of_stack(str(stack), "worker"), _FLOW_PATIENCE_SECONDS)
        supervisor.stop(running)
    if supervisor.running():
        supervisor.shut_down()
    remains = end(leftovers.of_stack(str(stack)), patience_seconds=10)
    if running:
        say(f"{len(running)} services stopped" + (f", {remains} processes they had left ended" if remains else ""))
    else:
        say("nothing ran" if not remains else f"{remains} processes that an earlier stack had left were ended")
