"""Find and end process trees by a mark in their environment, which children inherit even from a killed parent."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil


def marked(**variables: str) -> list[psutil.Process]:
    """Processes whose environment holds all of `variables`, without this process and its ancestors."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in own:
            continue
        with suppress(psutil.Error):
            environment = process.environ()
            if all(environment.get(name) == value for name, value in variables.items()):
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], patience_seconds: float) -> int:
    """Ask processes to stop, and kill those that have not after `patience_seconds`. Returns how many there were."""
    asked = list(processes)
    deadline = time.monotonic() + patience_seconds
    for process in asked:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(asked, timeout=max(0.0, deadline - time.monotonic()))
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    return len(asked)
