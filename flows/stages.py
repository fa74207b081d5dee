"""One Prefect task per stage: `dvc repro --single-item` for what may be stale, a cached state for what is not."""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from flows.children import end_leftover, run_child
from flows.dag import Stage
from flows.failures import failed, retry_on, unwrap
from flows.results import Outcome, Result, remember_minutes
from flows.workspace import recipe_folder
from psi0.errors import Psi0Error

_EXIT = re.compile(r"failed to run: .*exited with (?P<status>-?\d+)")
_SHELL_SIGNAL_BASE = 128
_UNCHANGED = re.compile(r"^Stage '.*' didn't change, skipping$")
_RESTORED = re.compile(r"^Stage '.*' is cached - skipping run, checking out outputs$")
_ADVICE = re.compile(r"^(To track the changes|To enable auto staging|Use `dvc push`|\s+git add |\s+dvc config )")
_TAIL_LINES = 8


class StageKilledError(Psi0Error):
    """A stage's process was killed (out of memory, a lost machine): another attempt resumes from its checkpoint."""


def repro(stage: str, environment: Mapping[str, str], hear: Callable[[str], None]) -> Result:
    """Bring one stage up to date, in this folder, streaming its output to `hear`.

    Raises:
        StageKilledError: its process was killed by a signal; trying again may help.
        Psi0Error: it failed; the message ends with the last lines it wrote.
    """
    command = [str(Path(sys.executable).parent / "dvc"), "repro", "--single-item", stage]
    lines: list[str] = []
    outcome: Outcome = "built"

    def listen(line: str) -> None:
        nonlocal outcome
        if _UNCHANGED.match(line):
            outcome = "up to date"
        elif _RESTORED.match(line):
            outcome = "restored"
        if line.strip() and not _ADVICE.match(line):
            lines.append(line)
            del lines[:-_TAIL_LINES]
            hear(line)

    begin = time.monotonic()
    status = run_child(command, environment, listen, pid_file())
    minutes = (time.monotonic() - begin) / 60
    if status != 0:
        tail = "\n".join(lines)
        signal_number = killing_signal(status, tail)
        if signal_number:
            raise StageKilledError(f"stage {stage} was killed by signal {signal_number}; its last words:\n{tail}")
        raise Psi0Error(f"stage {stage} failed; what was done before is kept, run again after the remedy:\n{tail}")
    if outcome == "built":
        remember_minutes(stage, minutes)
    return Result(stage, outcome, minutes)


def killing_signal(status: int, words: str) -> int | None:
    """Number of the signal that ended `dvc repro` or the stage it ran; None when neither was killed.

    DVC runs a stage through the user's shell: one that replaces itself by the command lets DVC see -9, one that
    stays its parent answers 128 + 9.
    """
    exited = _EXIT.search(words)
    code = int(exited["status"]) if exited else status
    if code < 0:
        return -code
    return code - _SHELL_SIGNAL_BASE if code > _SHELL_SIGNAL_BASE else None


def pid_file() -> Path:
    """Says which stage runs now, for the next run to end it should this one be killed."""
    return recipe_folder() / "stage.json"


def end_leftovers(say: Callable[[str], None]) -> None:
    """End the stage that a killed run left running."""
    left = end_leftover(pid_file())
    if left:
        say(f"ended what a killed run had left running: {left}")


def stage_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without Prefect's run context, plus what the services need."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    return {**own, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1", **extra}


@task(
    name="stage",
    task_run_name="{name}",
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=retry_on(StageKilledError),
    cache_policy=NO_CACHE,
)
def _build(name: str, environment: dict[str, str]) -> Result | State[Any]:
    try:
        result = repro(name, environment, get_run_logger().info)
    except StageKilledError:
        raise
    except Psi0Error as error:
        return failed(error)
    return result if result.outcome == "built" else Completed(name="Cached", message=result.outcome)


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE)
def _cached(name: str) -> State[Any]:
    return Completed(name="Cached", message="up to date")


def build(name: str, environment: dict[str, str]) -> Result:
    """Bring a stage up to date as a Prefect task; its state is named Cached when DVC finds nothing to do."""
    outcome = _build(name, environment)
    if isinstance(outcome, State) and outcome.is_completed():
        return Result(name, _outcome(outcome), 0.0)
    return unwrap(outcome)


def up_to_date(name: str) -> Result:
    """Show a stage that is up to date as a Prefect task whose state is named Cached."""
    return Result(name, _outcome(_cached(name)), 0.0)


def _outcome(state: State[Any]) -> Outcome:
    return "restored" if state.message == "restored" else "up to date"


def may_be_stale(stage: Stage, results: Mapping[str, Result]) -> bool:
    """Whether a stage must be visited: it is stale itself, or something it rests on was built in this run."""
    return stage.stale or any(results[name].outcome != "up to date" for name in stage.rests_on if name in results)
