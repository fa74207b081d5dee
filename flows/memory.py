"""What a recipe run tells MLflow, and asks it. While stages run this is a courtesy; registration is not.

A server that is away in the middle of training costs live curves and nothing else: registration rebuilds every
missing run from what the stages left behind.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from flows.failures import failed, retry_on, unwrap
from flows.results import Result
from flows.summary import TaskLine
from flows.workspace import recipe_folder
from psi0 import paths
from psi0.deploy.latency import measure
from psi0.errors import Psi0Error
from psi0.evaluate.schemas import GateFile, read_record
from psi0.files import read_json, sha256_json, write_json
from psi0.params import load_params
from psi0.registry.attempts import number_of, phrase
from psi0.registry.champion import read_state
from psi0.registry.leaderboard import default_file, rank, write_board
from psi0.registry.lock import PromotionBusyError
from psi0.registry.reconcile import reconcile
from psi0.registry.registration import register_policy
from psi0.registry.runs import abandon_stage, begin_recipe, begin_stage, end_recipe, find_stage, record_stage
from psi0.registry.stage_record import read_lock, read_stage
from psi0.registry.tracking import TrackingDownError, open_tracking
from psi0.registry.versions import Version, aliases, find_version, model_name


class Memory:
    """The MLflow side of one recipe run; the parent run is begun when there is something to tell."""

    def __init__(self, name: str) -> None:
        """`name` is the flow run's."""
        self.name = name
        self.built: dict[str, Result] = {}
        self._parent: str | None = None
        self._begun: dict[str, str] = {}
        self._client: MlflowClient | None = None

    def end_leftovers(self) -> None:
        """End the runs that a killed recipe run left open: it could not do so itself."""
        for run_id in _read_open():
            self._courtesy(partial(abandon_stage, run_id=run_id, killed=True))
        _write_open([])

    def begin(self, stage: str) -> str | None:
        """Begin a stage's run for live logging; None while MLflow is away."""
        try:
            run_id = begin_stage(self._connect(), self._recipe(), stage)
            _write_open([*_read_open(), run_id])
            return run_id
        except Psi0Error as error:
            _log().warning("no live curves for %s: %s", stage, error)
            self._client = None
            return None

    def environment(self, run_id: str | None) -> dict[str, str]:
        """What a stage needs to log live."""
        return {"MLFLOW_RUN_ID": run_id} if run_id else {}

    def complete(self, result: Result, run_id: str | None) -> None:
        """Note that a stage was built; a run begun in vain (it turned out up to date) goes away."""
        _close(run_id)
        if result.outcome == "built":
            self.built[result.stage] = result
            if run_id:
                self._begun[result.stage] = run_id
        elif run_id:
            self._courtesy(lambda client: client.delete_run(run_id))

    def abandon(self, run_id: str | None, killed: bool) -> None:
        """A stage did not finish."""
        _close(run_id)
        if run_id:
            self._courtesy(lambda client: abandon_stage(client, run_id, killed))

    def end(self, status: str, metrics: dict[str, float] | None = None) -> None:
        """End the parent run, if there is one."""
        if self._parent is not None:
            parent = self._parent
            self._courtesy(lambda client: end_recipe(client, parent, status, metrics))
            _close(parent)

    def register(self, task_name: str) -> tuple[TaskLine, Version]:
        """Record every stage that has no run yet and make the judged policy a version."""
        version = unwrap(register(self, task_name))
        gate = read_record(GateFile, paths.gate(task_name) / "gate.json")
        line = TaskLine(
            task=task_name,
            verdict=gate.verdict,
            sentence=f"{gate.sentence} ({phrase(number_of(version))})",
            version=f"{version.name} version {version.number}",
            aliases=self.aliases_of(version),
            report=str(paths.gate(task_name) / "report.html"),
            videos=str(paths.evaluation(task_name) / "videos"),
        )
        if gate.floor is not None:
            line.successes, line.episodes = gate.floor.successes, gate.floor.episodes
            line.success_rate = gate.floor.success_rate
            line.low, line.high = gate.floor.interval.low, gate.floor.interval.high
        return line, version

    def record_all(self, task_name: str) -> Version:
        """What `register` does, without Prefect around it."""
        client, lock = self._connect(), read_lock()
        for stage, entry in lock.items():
            record = read_stage(stage, entry)
            if find_stage(client, record) is None:
                result = self.built.get(stage)
                record_stage(client, record, self._recipe(), self._begun.get(stage), result.minutes if result else None)

        def measured(folder: Path) -> None:
            write_json(folder / "latency.json", measure(paths.graphs(task_name), load_params()))

        return register_policy(client, task_name, add=measured)

    def write_leaderboard(self) -> str:
        """Make the leaderboard anew; returns where it lies, or nothing while MLflow is away."""
        written: list[Path] = []
        self._courtesy(lambda client: written.append(write_board(rank(client), default_file())))
        return str(written[0]) if written else ""

    def reconcile(self, task_name: str) -> None:
        """Finish or undo what a promotion that was cut off left behind, and put right what was moved by hand."""
        try:
            settled = reconcile(self._connect(), task_name, f"recipe {self.name}")
        except PromotionBusyError as error:
            _log().warning("%s", error)
        else:
            if settled.kind != "consistent":
                _log().warning("%s", settled.message)

    def is_news(self, version: Version) -> bool:
        """Whether nothing was decided on a version yet: it was neither promoted nor refused."""
        return "promotion" not in version.tags and read_state(self._connect(), version.task).champion != version.number

    def bundle_line(self, version: Version) -> str:
        """Where a version's bundle lies when it is deployed, or why it is not."""
        if version.verdict != "pass":
            return f"no bundle: the verdict is {version.verdict}"
        state = read_state(self._connect(), version.task)
        if state.pointer is not None and state.deployed == version.number:
            return state.pointer.address
        why = find_version(self._connect(), version.task, version.number).tags.get("promotion_reason", "")
        return f"no bundle: version {state.champion or 'none'} is champion" + (f" ({why})" if why else "")

    def aliases_of(self, version: Version) -> list[str]:
        """Aliases of a version."""
        known = aliases(self._connect(), version.task)
        return sorted(alias for alias, number in known.items() if number == version.number)

    def _connect(self) -> MlflowClient:
        if self._client is None:
            self._client = open_tracking()
        return self._client

    def _recipe(self) -> str:
        if self._parent is None:
            params = sha256_json(load_params().model_dump(mode="json"))
            self._parent = begin_recipe(self._connect(), self.name, {"psi0.params_sha256": params})
            _write_open([*_read_open(), self._parent])
        return self._parent

    def _courtesy(self, act: Callable[[MlflowClient], object]) -> None:
        try:
            act(self._connect())
        except Exception as error:
            _log().warning("MLflow was not told: %s", error)


def _open_file() -> Path:
    return recipe_folder() / "open_runs.json"


def _read_open() -> list[str]:
    return read_json(_open_file()) if _open_file().exists() else []


def _write_open(run_ids: list[str]) -> None:
    write_json(_open_file(), run_ids)


def _close(run_id: str | None) -> None:
    _write_open([one for one in _read_open() if one != run_id])


@task(
    name="register",
    task_run_name="register-{task_name}",
    retries=3,
    retry_delay_seconds=10,
    retry_condition_fn=retry_on(TrackingDownError),
    cache_policy=NO_CACHE,
)
def register(memory: Memory, task_name: str) -> Version | State[Any]:
    """Record runs and register the policy of a task; tried again while MLflow is away."""
    try:
        version = memory.record_all(task_name)
    except TrackingDownError:
        raise
    except Psi0Error as error:
        return failed(error)
    logger = get_run_logger()
    what = "is" if version.created else "was already"
    logger.info("%s %s version %s of %s (%s)", task_name, what, version.number, model_name(task_name), version.verdict)
    return version


def _log() -> logging.Logger | logging.LoggerAdapter:
    return get_run_logger()
