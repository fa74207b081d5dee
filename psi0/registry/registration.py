"""Registration: a judged policy enters the registry with everything its verdict rests on."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.evaluate.schemas import GateFile, read_record
from psi0.files import sha256_file, write_json
from psi0.lineage import git_state
from psi0.model.manifest import write_manifest
from psi0.params import load_params
from psi0.registry import attempts
from psi0.registry.lock_graph import LockedStage, prepared, rests_on
from psi0.registry.mlmodel import write_mlmodel
from psi0.registry.origins import FILE as ORIGINS
from psi0.registry.origins import Origins, WeightsOrigin, describe_datasets
from psi0.registry.runs import find_stage
from psi0.registry.stage_record import read_lock, read_stage
from psi0.registry.tracking import explained, is_missing
from psi0.registry.versions import (
    CANDIDATE,
    EVIDENCE,
    Version,
    aliases,
    model_name,
    read_version,
)
from psi0.registry.weights import CONTENT, register_weights
from psi0.robot.system0_folder import RECORD_FILE, SYSTEM0_FOLDER

JUDGEMENT = "psi0.gate_sha256"
"""Tag with the SHA-256 of the verdict's file: one judgement, one version."""
REASONS_LENGTH = 4000
"""MLflow's page stays readable; the whole list is in `gate.json`."""


def register_policy(
    client: MlflowClient, task: str, workspace: Path = Path(), add: Callable[[Path], None] | None = None
) -> Version:
    """Make the judged policy in the workspace a version of `psi0-<task>`; the same judgement gives the same version.

    The evidence (graphs, evaluation files and videos, verdict, report, limits, parameters, `dvc.lock`, the datasets'
    origins, MLflow's own description of inputs and outputs, and what `add` puts into the folder it is called with)
    becomes artifacts of the gate's run, under `evidence/`. The System-2 and System-1 weights it came from become
    versions of their own. A passing version gets the alias `candidate`.

    Raises:
        Psi0Error: nothing was judged here, the files do not belong together, or MLflow refuses.
    """
    gate_file = workspace / paths.gate(task) / "gate.json"
    gate = read_record(GateFile, gate_file)
    if gate.task != task:
        raise Psi0Error(f"{gate_file} is a verdict on {gate.task!r}, not on {task!r}; `dvc repro gate@{task}` makes it")
    lock, stage = read_lock(workspace), f"gate@{task}"
    if stage not in lock:
        raise Psi0Error(f"{stage} is not in dvc.lock: what lies in {gate_file.parent} was not built by `dvc repro`")
    run = find_stage(client, read_stage(stage, lock[stage], workspace))
    if run is None:
        raise Psi0Error(f"{stage} has no run in MLflow; record the stages first")
    name = model_name(task)
    with explained(f"registering {name}"):
        _ensure_model(client, name, task)
        version = _known(client, name, sha256_file(gate_file)) or _create(client, task, workspace, gate, run, lock, add)
        attempts.remember(client, task, gate.plan_sha256, attempts.number_of(version))
        newest = int(aliases(client, task).get(CANDIDATE, 0))
        if gate.verdict == "pass" and newest < int(version.number):
            client.set_registered_model_alias(name, CANDIDATE, version.number)
    return version


def judgement_tags(gate: GateFile) -> dict[str, str]:
    """What the tags of a version say about its verdict; an audit compares."""
    tags = {
        "task": gate.task,
        "verdict": gate.verdict,
        "reasons": "; ".join(gate.reasons)[:REASONS_LENGTH],
        "policy_sha256": gate.policy_sha256,
        "graphs_sha256": gate.graphs_sha256,
        "plan_sha256": gate.plan_sha256,
    }
    if gate.floor is not None:
        floor = gate.floor
        tags |= {
            "success_rate": f"{floor.success_rate:.3f}",
            "episodes": str(floor.episodes),
            "successes": str(floor.successes),
            "interval_low": f"{floor.interval.low:.4f}",
            "interval_high": f"{floor.interval.high:.4f}",
        }
    return tags


def origin_tags(lock_file: Path, stages: list[LockedStage], origins: Origins) -> dict[str, str]:
    """What the tags of a version say about where it came from; an audit compares."""
    data = {f"data.{name}": output.md5 for name, output in prepared(stages).items()}
    return {"lock_sha256": sha256_file(lock_file), **data, **origins.tags()}


def describe(gate: GateFile, attempt: int) -> str:
    """The verdict in Markdown, for the registry's page."""
    lines = [f"**{gate.verdict.upper()}** {gate.sentence} ({attempts.phrase(attempt)})", ""]
    lines += [f"- {reason}" for reason in gate.reasons]
    if gate.floor:
        floor = gate.floor
        lines.append(
            f"- {floor.successes} of {floor.episodes} episodes succeeded "
            f"({floor.success_rate:.0%}, interval {floor.interval.low:.0%} to {floor.interval.high:.0%}); "
            f"the {floor.test} test between {floor.p0} and {floor.p1} says {floor.decision}"
        )
        if attempt > 1:
            lines.append(
                f"- of {attempt} policies that succeed in {floor.p0:.0%}, at least one would pass with a chance of "
                f"up to {attempts.chance(attempt, floor.alpha):.0%}"
            )
    lines += [
        f"- control `{name}`: {control.successes} of {control.episodes}, upper bound {control.upper_bound:.2f} "
        f"against {control.ceiling:.2f}: {'holds' if control.holds else 'FAILS'}"
        for name, control in sorted(gate.controls.items())
    ]
    if gate.parity:
        lines.append(f"- parity with torch: {gate.parity.max_abs_error:.1e} (limit {gate.parity.limit:.0e})")
    return "\n".join([*lines, "", "Evidence: artifacts of the run, under `evidence/` (open `gate/report.html`)."])


def _known(client: MlflowClient, name: str, judgement: str) -> Version | None:
    found = client.search_model_versions(f"name = '{name}' and tags.`{JUDGEMENT}` = '{judgement}'")
    return read_version(found[0]) if found else None


def _create(
    client: MlflowClient,
    task: str,
    workspace: Path,
    gate: GateFile,
    run: Run,
    lock: dict[str, Any],
    add: Callable[[Path], None] | None,
) -> Version:
    """Weights, evidence, version: in this order, so that a version is whole from its first moment."""
    stages = rests_on(lock, f"gate@{task}")
    commit, dirty = git_state(workspace)
    origins = Origins(
        git_commit=commit,
        git_dirty=dirty,
        attempt=attempts.attempt_of(client, task, gate.plan_sha256, gate.policy_sha256),
        weights={
            made.name: WeightsOrigin(version=made.number, sha256=made.tags[CONTENT])
            for made in register_weights(client, lock, workspace).values()
        },
        datasets=describe_datasets(stages, workspace),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _collect(folder, task, workspace, origins, add)
        evidence_sha256 = write_manifest(folder)
        client.log_artifacts(run.info.run_id, temporary, EVIDENCE)
    tags = {
        **judgement_tags(gate),
        **origin_tags(workspace / "dvc.lock", stages, origins),
        JUDGEMENT: sha256_file(workspace / paths.gate(task) / "gate.json"),
        "evidence_sha256": evidence_sha256,
    }
    version = client.create_model_version(
        model_name(task),
        source=f"{run.info.artifact_uri}/{EVIDENCE}",
        run_id=run.info.run_id,
        tags=tags,
        description=describe(gate, origins.attempt),
        await_creation_for=0,
    )
    return read_version(version, created=True)


def _collect(folder: Path, task: str, workspace: Path, origins: Origins, add: Callable[[Path], None] | None) -> None:
    """Put a version's evidence into a folder."""
    for name, source in (
        ("graphs", paths.graphs(task)),
        ("evaluation", paths.evaluation(task)),
        ("gate", paths.gate(task)),
    ):
        shutil.copytree(workspace / source, folder / name)
    files = {
        "limits.json": workspace / paths.ROBOT / "limits.json",
        "params.yaml": workspace / "params.yaml",
        "dvc.lock": workspace / "dvc.lock",
    }
    for name, source in files.items():
        if not source.exists():
            raise Psi0Error(f"{source} is missing; `dvc repro` or `dvc pull` brings it back")
        shutil.copyfile(source, folder / name)
    given = workspace / paths.ROBOT / SYSTEM0_FOLDER / RECORD_FILE
    if given.exists():
        shutil.copyfile(given, folder / RECORD_FILE)
    write_json(folder / ORIGINS, origins.model_dump(mode="json"))
    write_mlmodel(folder, load_params(folder / "params.yaml"))
    if add is not None:
        add(folder)


def _ensure_model(client: MlflowClient, name: str, task: str) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        client.create_registered_model(
            name,
            description=f"Policies for `{task}`, each judged in closed loop as exported graphs. `champion` is the one "
            "that is deployed, `candidate` the latest that passed, `previous` the champion before.",
        )
