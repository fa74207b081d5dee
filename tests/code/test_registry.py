"""What MLflow remembers: runs rebuilt from files, versions with evidence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from psi0.errors import Psi0Error
from psi0.files import write_json
from psi0.registry.registration import register_policy
from psi0.registry.restore import restore_lock
from psi0.registry.runs import PARENT, begin_recipe, begin_stage, end_recipe, record_stage
from psi0.registry.stage_record import read_lock, read_stage
from psi0.registry.tracking import experiment_id, open_tracking
from psi0.registry.versions import (
    Version,
    aliases,
    download_evidence,
    find_version,
    note,
)
from tests.code.conftest import make_workspace


def _record_all(client: MlflowClient, workspace: Path, parent: str) -> dict[str, str]:
    lock = read_lock(workspace)
    return {name: record_stage(client, read_stage(name, entry, workspace), parent) for name, entry in lock.items()}


def _register(client: MlflowClient, workspace: Path) -> Version:
    _record_all(client, workspace, begin_recipe(client, "recipe"))
    return register_policy(client, "pick_can", workspace)


def test_a_stage_run_is_rebuilt_from_what_the_stage_left(client: MlflowClient, workspace: Path) -> None:
    parent = begin_recipe(client, "recipe", {"psi0.params_sha256": "0" * 64})
    run = client.get_run(_record_all(client, workspace, parent)["finetune@pick_can"])
    assert run.data.tags[PARENT] == parent
    assert run.data.params == {"finetune.steps": "500", "finetune.seed": "7"}
    assert run.data.metrics["held_out.loss"] == 0.2
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {(point.step, point.value) for point in history} >= {(1, 1.0), (2, 0.5)}
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("data/prepared/demonstrations/pick_can", "c" * 32 + ".dir")
    tags = {"psi0.git_commit", "psi0.git_dirty", "psi0.lock_entry_sha256", "psi0.params_sha256"}
    assert tags <= run.data.tags.keys()
    assert run.info.status == "FINISHED"


def test_recording_twice_records_once(client: MlflowClient, workspace: Path) -> None:
    first = _record_all(client, workspace, begin_recipe(client, "first"))
    assert _record_all(client, workspace, begin_recipe(client, "second")) == first
    lock = yaml.safe_load((workspace / "dvc.lock").read_text())
    lock["stages"]["finetune@pick_can"]["params"]["params.yaml"]["finetune"]["seed"] = 8
    (workspace / "dvc.lock").write_text(yaml.safe_dump(lock))
    third = _record_all(client, workspace, begin_recipe(client, "third"))
    assert third["gate@pick_can"] == first["gate@pick_can"]
    assert third["finetune@pick_can"] != first["finetune@pick_can"], "another seed is another run"


def test_live_curves_are_completed_not_repeated(client: MlflowClient, workspace: Path) -> None:
    parent = begin_recipe(client, "recipe")
    begun = begin_stage(client, parent, "finetune@pick_can")
    client.log_metric(begun, "loss", 1.0, step=1)
    record = read_stage("finetune@pick_can", read_lock(workspace)["finetune@pick_can"], workspace)
    assert record_stage(client, record, parent, begun, minutes=3.5) == begun
    steps = sorted(point.step for point in client.get_metric_history(begun, "loss"))
    assert steps.count(1) == 1
    assert 2 in steps
    assert client.get_run(begun).data.metrics["minutes"] == 3.5


def test_a_killed_recipe_leaves_a_killed_run(client: MlflowClient) -> None:
    run_id = begin_recipe(client, "recipe")
    end_recipe(client, run_id, "KILLED", {"minutes": 2.0})
    assert client.get_run(run_id).info.status == "KILLED"
    assert experiment_id(client) == client.get_run(run_id).info.experiment_id


def test_a_judged_policy_becomes_one_version_with_its_evidence(
    client: MlflowClient, workspace: Path, tmp_path: Path
) -> None:
    _record_all(client, workspace, begin_recipe(client, "recipe"))

    def add(folder: Path) -> None:
        (folder / "latency.json").write_text("{}")

    version = register_policy(client, "pick_can", workspace, add)
    assert (version.number, version.verdict, version.created) == ("1", "pass", True)
    assert aliases(client, "pick_can") == {"candidate": "1"}
    assert version.tags["success_rate"] == "0.975"
    folder = download_evidence(client, version, tmp_path)
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    expected = {"gate/gate.json", "gate/report.html", "evaluation/policy.json", "graphs/s1_step.onnx"}
    assert expected | {"limits.json", "params.yaml", "dvc.lock", "latency.json"} <= names
    description = client.get_model_version("psi0-pick_can", "1").description
    assert "39 of 40" in description and "PASS" in description
    again = register_policy(client, "pick_can", workspace)
    assert (again.number, again.created) == ("1", False)


def test_a_system0_given_as_files_is_named_in_the_evidence(
    client: MlflowClient, workspace: Path, tmp_path: Path
) -> None:
    _record_all(client, workspace, begin_recipe(client, "recipe"))
    record = workspace / "data/robot/system0/system0.json"
    write_json(record, {"schema_version": 1, "kind": "amo", "files": {"amo_jit.pt": "1" * 64}})
    (record.parent / "amo_jit.pt").write_bytes(b"weights")
    folder = download_evidence(client, register_policy(client, "pick_can", workspace), tmp_path)
    assert (folder / "system0.json").read_bytes() == record.read_bytes()
    assert not list(folder.rglob("*.pt"))


def test_without_runs_or_lock_nothing_is_registered(client: MlflowClient, workspace: Path) -> None:
    with pytest.raises(Psi0Error, match="no run in MLflow"):
        register_policy(client, "pick_can", workspace)
    (workspace / "dvc.lock").unlink()
    with pytest.raises(Psi0Error, match=r"dvc\.lock is missing"):
        register_policy(client, "pick_can", workspace)


def test_a_broken_history_is_named(workspace: Path) -> None:
    (workspace / "models/policy/pick_can/history.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    with pytest.raises(Psi0Error, match=r"history\.jsonl:2"):
        read_stage("finetune@pick_can", read_lock(workspace)["finetune@pick_can"], workspace)


@pytest.mark.parametrize("verdict", ["refuse", "void"])
def test_what_did_not_pass_is_registered_without_an_alias(client: MlflowClient, tmp_path: Path, verdict: str) -> None:
    version = _register(client, make_workspace(tmp_path / "refused", verdict))
    assert version.verdict == verdict
    assert aliases(client, "pick_can") == {}


def test_an_unknown_version_lists_the_known_ones(client: MlflowClient, workspace: Path) -> None:
    with pytest.raises(Psi0Error, match="none yet"):
        find_version(client, "pick_can", "champion")
    note(client, _register(client, workspace), colour="red")
    with pytest.raises(Psi0Error, match=r"1 \(pass\)"):
        find_version(client, "pick_can", "7")


def test_a_lock_comes_back_only_beside_its_parameters(client: MlflowClient, workspace: Path, tmp_path: Path) -> None:
    version = _register(client, workspace)
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copyfile(workspace / "params.yaml", clone / "params.yaml")
    assert "dvc pull" in restore_lock(client, version, clone)
    assert (clone / "dvc.lock").read_bytes() == (workspace / "dvc.lock").read_bytes()
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["finetune"]["steps"] = 999
    (clone / "params.yaml").write_text(yaml.safe_dump(params))
    (clone / "dvc.lock").unlink()
    with pytest.raises(Psi0Error, match=r"params\.yaml differs"):
        restore_lock(client, version, clone)
    assert not (clone / "dvc.lock").exists()


def test_mlflow_that_is_down_is_explained(use_settings: Callable[..., None]) -> None:
    use_settings(mlflow_uri="http://127.0.0.1:9")
    with pytest.raises(Psi0Error, match="PSI0_MLFLOW_URI"):
        open_tracking()
