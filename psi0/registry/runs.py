"""Runs: one parent per recipe run, a child per stage. Recording a stage twice records it once.

A stage's run is known by the hash of its entry in `dvc.lock`: the same inputs, parameters and outputs are the same
run, whichever recipe run made it. A run that was begun for live logging is completed; a missing one is rebuilt.
"""

import re
import time
from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from psi0.lineage import git_state
from psi0.registry.stage_record import StageRecord
from psi0.registry.tracking import experiment_id, explained

PARENT = "mlflow.parentRunId"
STAGE = "psi0.stage"
LOCK = "psi0.lock_entry_sha256"
COMPLETE = "psi0.complete"

_BATCH = 800
_NOT_ALLOWED = re.compile(r"[^\w\-. /]")


def begin_recipe(client: MlflowClient, name: str, tags: dict[str, str] | None = None) -> str:
    """Begin the parent run of a recipe run; returns its id."""
    commit, dirty = git_state()
    all_tags = {"psi0.kind": "recipe", "psi0.git_commit": commit, "psi0.git_dirty": str(dirty).lower(), **(tags or {})}
    with explained("beginning the recipe's run"):
        return client.create_run(experiment_id(client), run_name=name, tags=all_tags).info.run_id


def end_recipe(client: MlflowClient, run_id: str, status: str, metrics: dict[str, float] | None = None) -> None:
    """End the parent run with `FINISHED`, `FAILED` or `KILLED`."""
    with explained("ending the recipe's run"):
        for name, value in (metrics or {}).items():
            client.log_metric(run_id, name, value)
        client.set_terminated(run_id, status=status)


def begin_stage(client: MlflowClient, parent: str, stage: str) -> str:
    """Begin a stage's run, so that the stage can log to it live; returns its id."""
    tags = {PARENT: parent, "psi0.kind": "stage", STAGE: stage}
    with explained(f"beginning the run of {stage}"):
        return client.create_run(experiment_id(client), run_name=stage, tags=tags).info.run_id


def abandon_stage(client: MlflowClient, run_id: str, killed: bool) -> None:
    """End the run of a stage that did not finish."""
    with explained("ending a stage's run"):
        client.set_terminated(run_id, status="KILLED" if killed else "FAILED")


def find_stage(client: MlflowClient, record: StageRecord) -> Run | None:
    """The complete run of exactly this stage record, if there is one."""
    question = (
        f"tags.`{LOCK}` = '{record.lock_sha256}' and tags.`{STAGE}` = '{record.name}' and tags.`{COMPLETE}` = 'true'"
    )
    with explained(f"finding the run of {record.name}"):
        found = client.search_runs([experiment_id(client)], question, max_results=1)
    return found[0] if found else None


def record_stage(
    client: MlflowClient, record: StageRecord, parent: str, begun: str | None = None, minutes: float | None = None
) -> str:
    """Make sure that a stage has a complete run below `parent` or an earlier recipe run; returns its id.

    Args:
        client: of the MLflow server.
        record: the stage, as its files tell.
        parent: run of the recipe run that built it (used when a run must be made).
        begun: run begun for live logging, to be completed.
        minutes: how long the stage took, where known.
    """
    known = find_stage(client, record)
    if known is not None:
        return known.info.run_id
    run_id = begun or begin_stage(client, parent, record.name)
    commit, dirty = git_state()
    tags = {
        STAGE: record.name,
        LOCK: record.lock_sha256,
        "psi0.params_sha256": record.params_sha256,
        "psi0.git_commit": commit,
        "psi0.git_dirty": str(dirty).lower(),
        **{f"psi0.dataset.{_key(data.path)}": data.digest for data in record.datasets},
        **{f"psi0.output.{_key(path)}": digest for path, digest in record.outputs.items()},
    }
    metrics = dict(record.metrics) | ({"minutes": minutes} if minutes else {})
    with explained(f"recording {record.name}"):
        run = client.get_run(run_id)
        params = [Param(_key(name), str(value)[:6000]) for name, value in record.params.items()]
        params = [param for param in params if param.key not in run.data.params]
        for part in _parts(params, 100):
            client.log_batch(run_id, params=part)
        for part in _parts(_missing_points(client, run, record), _BATCH):
            client.log_batch(run_id, metrics=part)
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(_key(name), value, now, 0) for name, value in metrics.items()])
        if record.datasets and not (run.inputs and run.inputs.dataset_inputs):
            client.log_inputs(run_id, [_dataset_input(data.path, data.digest) for data in record.datasets])
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        client.set_tag(run_id, COMPLETE, "true")
        client.set_terminated(run_id)
    return run_id


def _missing_points(client: MlflowClient, run: Run, record: StageRecord) -> list[Metric]:
    """Points of the history that live logging has not brought already."""
    known: set[tuple[int, str]] = set()
    for name in {name for _, name, _ in record.history}:
        if _key(name) in run.data.metrics:
            known |= {(point.step, name) for point in client.get_metric_history(run.info.run_id, _key(name))}
    return [
        Metric(_key(name), value, run.info.start_time + step, step)
        for step, name, value in record.history
        if (step, name) not in known
    ]


def _dataset_input(path: str, digest: str) -> DatasetInput:
    dataset = Dataset(name=path, digest=digest[:36], source_type="dvc", source=path)
    return DatasetInput(dataset=dataset, tags=[InputTag(key="mlflow.data.context", value="input")])


def _key(name: str) -> str:
    return _NOT_ALLOWED.sub("_", name)


def _parts(items: Iterable, size: int) -> Iterable[list]:
    batch: list = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
