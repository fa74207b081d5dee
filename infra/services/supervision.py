"""Supervisor keeps the services: its configuration, and questions to it over its socket."""

import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from infra.services import leftovers
from infra.services.definitions import Service, short_folder, supervisor_environment
from infra.services.keys import write_private
from psi0.errors import Psi0Error

_START_SECONDS = 15.0
_STOP_SECONDS = 60.0
_UP = ("RUNNING", "STARTING")


@dataclass(frozen=True)
class Process:
    """What supervisor knows of a service; `started` in seconds since 1970."""

    name: str
    state: str
    pid: int
    started: float
    detail: str

    @property
    def up(self) -> bool:
        """Whether it runs or is about to."""
        return self.state in _UP


class Supervisor:
    """The supervisor of one stack, running or not."""

    def __init__(self, stack: Path) -> None:
        """`stack` is the absolute folder of the stack's state."""
        self.stack = stack
        self.configuration = stack / "supervisord.conf"
        self.socket = short_folder(stack) / "supervisor.sock"

    def log(self, name: str) -> Path:
        """Log of a service."""
        return self.stack / "logs" / f"{name}.log"

    def script(self, name: str) -> Path:
        """Start script of a service."""
        return self.stack / "start" / f"{name}.sh"

    def changed(self, services: Iterable[Service]) -> list[str]:
        """Names of the services whose start script differs from the one that `configure` wrote last."""
        return [
            service.name
            for service in services
            if not self.script(service.name).exists()
            or self.script(service.name).read_text() != service.script(self.stack)
        ]

    def configure(self, services: Iterable[Service], only: Collection[str] | None = None) -> None:
        """Write the configuration and the start scripts; with `only`, scripts of others are kept where they exist."""
        sections = [_HEADER.format(stack=self.stack, socket=self.socket)]
        (self.stack / "logs").mkdir(parents=True, exist_ok=True)
        for service in services:
            for folder in service.folders:
                folder.mkdir(parents=True, exist_ok=True)
            script = self.script(service.name)
            if only is None or service.name in only or not script.exists():
                write_private(script, service.script(self.stack))
            sections.append(_PROGRAM.format(name=service.name, script=script, log=self.log(service.name)))
        write_private(self.configuration, "\n".join(sections).replace("%", "%%"))

    def start(self) -> None:
        """Start supervisor itself, as a daemon without any service running yet. Raises `Psi0Error`."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.configuration)]
        answer = subprocess.run(
            command,
            env=supervisor_environment(self.stack),
            cwd=self.stack,
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + _START_SECONDS
        while answer.returncode == 0 and time.monotonic() < deadline:
            if self.running():
                return
            time.sleep(0.1)
        raise Psi0Error(
            f"supervisor did not start: {answer.stderr.strip() or answer.stdout.strip()}; see {self.stack}/logs"
        )

    def running(self) -> bool:
        """Whether supervisor answers on its socket."""
        if not self.socket.exists():
            return False
        with suppress(OSError, xmlrpc.client.Error):
            return bool(self._call("getState"))
        return False

    def processes(self) -> dict[str, Process]:
        """Every service it keeps, by name; empty when it does not run."""
        if not self.running():
            return {}
        return {
            info["name"]: Process(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                started=float(info["start"]),
                detail=info["spawnerr"] or info["description"],
            )
            for info in self._call("getAllProcessInfo")
        }

    def reread(self) -> None:
        """Take over a changed configuration: new services become known, dropped ones are stopped and forgotten."""
        added, _, removed = self._call("reloadConfig")[0]
        for name in removed:
            self.stop([name])
            self._call("removeProcessGroup", name)
        for name in added:
            self._call("addProcessGroup", name)

    def launch(self, name: str) -> None:
        """Start a service without waiting for it; one that runs already is left alone."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise Psi0Error(f"{name} cannot be started ({fault.faultString}); see {self.log(name)}") from None

    def stop(self, names: Iterable[str], patience_seconds: float = _STOP_SECONDS) -> None:
        """Stop services side by side and wait for them."""
        names = list(names)
        for name in names:
            with suppress(xmlrpc.client.Fault):
                self._call("stopProcess", name, False)
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            known = self.processes()
            if all(known[name].state in ("STOPPED", "EXITED", "FATAL") for name in names if name in known):
                return
            time.sleep(0.2)

    def shut_down(self) -> None:
        """End supervisor and whatever it still keeps."""
        own = leftovers.of_stack(str(self.stack), "supervisor")
        with suppress(OSError, xmlrpc.client.Error):
            self._call("shutdown")
        psutil.wait_procs(own, timeout=_STOP_SECONDS)

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        return getattr(proxy.supervisor, method)(*arguments)


def tail(path: Path, lines: int) -> str:
    """Last lines of a log; empty when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 400 * lines))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


_HEADER = """\
[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}

[supervisord]
logfile = {stack}/logs/supervisord.log
logfile_maxbytes = 10MB
logfile_backups = 1
pidfile = {stack}/supervisord.pid
childlogdir = {stack}/logs
umask = 077
"""

# SeaweedFS takes sixteen seconds to stop, Ray longer after training: killing them earlier would leave their children.
_PROGRAM = """\
[program:{name}]
command = /bin/sh "{script}"
autostart = false
autorestart = true
startsecs = 3
startretries = 20
stopwaitsecs = 45
killasgroup = true
redirect_stderr = true
stdout_logfile = {log}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 1
"""
