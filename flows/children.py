"""Run a command as a child that can always be ended whole: by its process group, and by a mark all descendants carry.

A pid file says what runs, so that the next run can end what a killed one left behind.
"""

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from psi0.files import write_json
from psi0.processes import end, marked

MARK = "PSI0_STAGE_RUN"
"""Variable that every descendant of a stage's command carries."""

_GROUP_PATIENCE_SECONDS = 10.0
_REST_PATIENCE_SECONDS = 5.0


def run_child(command: list[str], environment: Mapping[str, str], hear: Callable[[str], None], pid_file: Path) -> int:
    """Run `command` in its own process group and hand every line of its output to `hear`. Returns its exit status.

    However this ends (a signal's exception, Ctrl-C, an error in `hear`), no process of the command stays alive, and it
    takes at most 20 seconds.
    """
    mark = uuid.uuid4().hex
    child = subprocess.Popen(
        command,
        env={**environment, MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        write_json(pid_file, {"pid": child.pid, "mark": mark, "command": command})
        assert child.stdout is not None
        for line in child.stdout:
            hear(line.rstrip())
        return child.wait()
    finally:
        if child.poll() is None:
            _end_group(child.pid)
        end(marked(**{MARK: mark}), _REST_PATIENCE_SECONDS)
        child.wait()
        pid_file.unlink(missing_ok=True)


def _end_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        with suppress(psutil.Error):
            psutil.wait_procs([psutil.Process(group)], timeout=_GROUP_PATIENCE_SECONDS)
        os.killpg(group, signal.SIGKILL)


def end_leftover(pid_file: Path) -> str | None:
    """End what a killed run left running. Returns what it was, or None when there was nothing."""
    try:
        content = json.loads(pid_file.read_text())
        mark, command = content["mark"], " ".join(content["command"])
    except (OSError, ValueError, KeyError, TypeError):
        pid_file.unlink(missing_ok=True)
        return None
    ended = end(marked(**{MARK: mark}), _GROUP_PATIENCE_SECONDS)
    pid_file.unlink(missing_ok=True)
    return command if ended else None
