"""Which processes belong to a stack, whoever their parent is now.

Every process below supervisor carries two variables in its environment: which stack it belongs to and which service
it is. So what a killed parent leaves behind (MLflow's server process keeps its port and answers health checks) is
still known as ours. `python -m infra.services.leftovers NAME` is the first line of each start script: it ends what
an earlier start of that service left.
"""

import os
import sys
from contextlib import suppress

import psutil

from psi0.processes import end, marked

STACK = "PSI0_STACK"
"""Variable that names the stack: the absolute folder of its state."""
SERVICE = "PSI0_STACK_SERVICE"
"""Variable that names the service."""


def of_stack(stack: str, service: str | None = None) -> list[psutil.Process]:
    """Processes of a stack, or of one of its services, without this one and its ancestors."""
    return marked(**{STACK: stack}) if service is None else marked(**{STACK: stack, SERVICE: service})


def listener(port: int) -> psutil.Process | None:
    """The process that listens on a TCP port, where this user may know."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid is not None:
                with suppress(psutil.Error):
                    return psutil.Process(connection.pid)
    return None


def belongs(process: psutil.Process, stack: str) -> bool:
    """Whether a process carries the mark of a stack."""
    try:
        return process.environ().get(STACK) == stack
    except psutil.Error:
        return False


if __name__ == "__main__":
    end(of_stack(os.environ[STACK], sys.argv[1]), patience_seconds=3)
