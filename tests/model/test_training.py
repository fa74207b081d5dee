"""The three training stages: they learn, they resume sample for sample, and they say what is wrong."""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from learnable import inside, private_copy, tiny_params, write_all

from psi0.errors import Psi0Error
from psi0.files import sha256_folder
from psi0.lineage import read_lineage
from psi0.model.system1 import ActionExpert
from psi0.settings import settings
from psi0.train import stage
from psi0.train.checkpoint import MANIFEST, newest
from psi0.train.flow_chunks import load_expert
from psi0.train.worker import train_here


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the three prepared datasets, and the tokenizer, System-2 and System-1 trained on them."""
    root = tmp_path_factory.mktemp("prepared")
    write_all(root, episodes=16)
    with inside(root):
        params = learning_params()
        stage.fit_tokenizer(params)
        stage.pretrain(params, in_process=True)
        stage.posttrain(params, in_process=True)
    return root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A private copy of the trained workspace, without checkpoints, as current folder."""
    with private_copy(prepared, tmp_path) as root:
        yield root


def learning_params(**changes: dict[str, Any]) -> Any:
    """Enough steps to learn something."""
    blocks: dict[str, dict[str, Any]] = {
        "pretrain": {"steps": 240, "humanoid_everyday_steps": 80, "validation_every": 240, "checkpoint_every": 240},
        "posttrain": {"steps": 200, "validation_every": 200, "checkpoint_every": 200},
        # Pictures of the toy are small: a large shift would hide what is to be seen.
        "finetune": {
            **{"steps": 240, "validation_every": 240, "checkpoint_every": 240, "learning_rate": 1e-3},
            **{"image_shift": 2, "color_jitter": 0.0, "validation_share": 0.1, "key_point_loss": 1.0},
        },
    }
    for name, fields in changes.items():
        blocks.setdefault(name, {}).update(fields)
    return tiny_params(**blocks)


def metrics(folder: str) -> dict[str, float]:
    return json.loads(Path(folder, "metrics.json").read_text())


def only_run(name: str) -> Path:
    """The folder of checkpoints of the one run of a stage."""
    (folder,) = Path(".psi0/checkpoints", name).iterdir()
    return folder


def test_system2_learns_next_tokens(prepared: Path) -> None:
    found = metrics(str(prepared / "models/system2"))
    assert found["validation_loss"] < 0.5 * found["validation_loss_start"]
    assert found["validation_loss"] < 0.9 * found["trivial_loss"]


def test_system1_learns_with_system2_frozen(prepared: Path) -> None:
    found = metrics(str(prepared / "models/system1"))
    assert found["validation_loss"] < 0.5 * found["validation_loss_start"]
    assert found["validation_loss"] < 0.7 * found["trivial_loss"]


def test_both_learn_in_one_stage(workspace: Path) -> None:
    params = learning_params(
        pretrain={"steps": 0, "humanoid_everyday_steps": 0, "warmup_steps": 0},
        posttrain={"cotrain": True, "steps": 240, "validation_every": 240, "checkpoint_every": 240},
    )
    stage.pretrain(params, in_process=True)
    stage.posttrain(params, in_process=True)
    found = metrics("models/system1")
    assert found["validation_loss"] < 0.5 * found["validation_loss_start"]
    assert found["validation_flow_loss"] < 0.7 * found["trivial_flow_loss"]
    assert found["validation_next_token_loss"] < 0.9 * found["trivial_next_token_loss"]


def test_fine_tuning_learns(workspace: Path) -> None:
    stage.finetune(learning_params(), "pick_can", in_process=True)
    found = metrics("models/policy/pick_can")
    assert found["validation_loss"] < 0.6 * found["validation_loss_start"]
    assert found["validation_flow_loss"] < 0.8 * found["trivial_loss"]
    assert found["validation_key_point_loss"] < 0.05
    # Only the image tells where the square is: the state knows little more than the mean.
    assert 0.8 * found["mean_action_error"] < found["state_only_error"] < 1.2 * found["mean_action_error"]
    rows = [json.loads(line) for line in Path("models/policy/pick_can/history.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 0 and rows[-1]["step"] == 240 and "validation_loss" in rows[-1]
    header, *lines = Path("models/policy/pick_can/history.csv").read_text().splitlines()
    assert header.startswith("step,") and len(lines) == len(rows) and ",," not in "".join(lines)


def test_stages_of_no_steps_leave_weights_as_they_begin(workspace: Path) -> None:
    params = learning_params(
        pretrain={"steps": 0, "humanoid_everyday_steps": 0, "warmup_steps": 0},
        posttrain={"steps": 0, "warmup_steps": 0},
    )
    stage.pretrain(params, in_process=True)
    stage.posttrain(params, in_process=True)
    for folder in ("models/system2", "models/system1"):
        found = metrics(folder)
        assert found["steps"] == 0 and found["validation_loss"] == found["validation_loss_start"]
    stage.finetune(short(), "pick_can", in_process=True)
    assert metrics("models/policy/pick_can")["steps"] == 24


def short(**fields: Any) -> Any:
    """A fine-tuning of 24 steps with a checkpoint every 8; 480 frames in batches of 16 make epochs of 28 steps."""
    quick = {"steps": 24, "checkpoint_every": 8, "validation_every": 12, "batch": 32}
    return learning_params(finetune={**quick, **fields})


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def run_until(params: Any, last: int) -> None:
    def kill(done: int) -> None:
        if done == last:
            raise Killed

    with pytest.raises(Killed):
        train_here(stage.finetune_job(params, "pick_can"), kill)


@pytest.fixture(scope="module")
def uninterrupted(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the policy of `short()`, trained in one go."""
    root = tmp_path_factory.mktemp("uninterrupted") / "workspace"
    shutil.copytree(prepared, root, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        settings.cache_clear()
        stage.finetune(short(), "pick_can", in_process=True)
        settings.cache_clear()
        return sha256_folder(Path("models/policy/pick_can"))


@pytest.mark.parametrize("last", [5, 8, 13, 15])
def test_an_interrupted_run_ends_with_the_same_bytes(workspace: Path, uninterrupted: str, last: int) -> None:
    """Before the first checkpoint, right after one, in the middle, and one step after an epoch ended (432 // 32)."""
    run_until(short(), last)
    stage.finetune(short(), "pick_can", in_process=True)
    assert sha256_folder(Path("models/policy/pick_can")) == uninterrupted


def test_a_broken_checkpoint_is_skipped_for_the_one_before(
    workspace: Path, uninterrupted: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run_until(short(), 20)
    folder = only_run("finetune@pick_can")
    weights = folder / "step-00000016/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (folder / "step-00000020").mkdir()
    (folder / ".step-00000024.partial").mkdir()
    stage.finetune(short(), "pick_can", in_process=True)
    said = capfd.readouterr().err
    assert "step-00000020 skipped" in said and MANIFEST in said
    assert "step-00000016 skipped" in said and "does not match its checksum" in said
    assert "resumed after step 8" in said
    assert sha256_folder(Path("models/policy/pick_can")) == uninterrupted
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-00000020", "step-00000024"]


def test_shards_of_other_ranks_are_refused(workspace: Path) -> None:
    run_until(short(), 9)
    found = newest(only_run("finetune@pick_can"), print)
    assert found is not None
    manifest = json.loads((found[0] / MANIFEST).read_text())
    (found[0] / MANIFEST).write_text(json.dumps({**manifest, "ranks": 2}))
    with pytest.raises(Psi0Error, match=r"written by 2 ranks .* now 1"):
        stage.finetune(short(), "pick_can", in_process=True)


def test_a_loss_that_explodes_names_step_and_samples(workspace: Path) -> None:
    with pytest.raises(Psi0Error, match=r"not finite at step \d+ .*demonstrations of pick_can episode \d+ frame \d+"):
        stage.finetune(short(learning_rate=1e30, warmup_steps=0), "pick_can", in_process=True)
    assert not Path("models/policy/pick_can").exists()


def test_a_full_disk_is_said_and_the_checkpoint_before_stays(workspace: Path, uninterrupted: str) -> None:
    run_until(short(), 9)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Psi0Error, match=r"checkpoint cannot be written .* free some space or point PSI0_HOME"):
            stage.finetune(short(), "pick_can", in_process=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    stage.finetune(short(), "pick_can", in_process=True)
    assert sha256_folder(Path("models/policy/pick_can")) == uninterrupted


def commit(message: str) -> None:
    identity = ["-c", "user.name=psi0", "-c", "user.email=psi0@localhost"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", *identity, "commit", "-qm", message, "--allow-empty"], check=True)


def test_another_commit_leaves_the_same_bytes_and_the_same_key(workspace: Path) -> None:
    commit("first")
    params = learning_params(posttrain={"steps": 6, "checkpoint_every": 6, "validation_every": 6})
    stage.posttrain(params, in_process=True)
    before, key = sha256_folder(Path("models/system1")), stage.finetune_job(params, "pick_can").fingerprint
    found = newest(only_run("posttrain"), print)
    assert found is not None and len(found[1].checkout.git_commit) == 40 and not found[1].checkout.dirty
    commit("second")
    shutil.rmtree(".psi0")
    stage.posttrain(params, in_process=True)
    assert sha256_folder(Path("models/system1")) == before
    again = newest(only_run("posttrain"), print)
    assert again is not None and again[1].checkout.git_commit != found[1].checkout.git_commit
    assert stage.finetune_job(params, "pick_can").fingerprint == key
    assert read_lineage(Path("models/system1")).precision == again[1].precision != "auto"


def test_stage_one_run_twice_leaves_the_same_bytes(workspace: Path) -> None:
    short_run = {"steps": 6, "humanoid_everyday_steps": 2, "checkpoint_every": 6, "validation_every": 6}
    hashes = []
    for _ in range(2):
        shutil.rmtree(".psi0", ignore_errors=True)
        stage.pretrain(learning_params(pretrain=short_run), in_process=True)
        hashes.append(sha256_folder(Path("models/system2")))
    assert hashes[0] == hashes[1]


def test_the_key_follows_what_training_depends_on_and_nothing_else(workspace: Path) -> None:
    def key(**changes: dict[str, Any]) -> str:
        return stage.posttrain_job(learning_params(**changes)).fingerprint

    before = key()
    assert key(system1={"euler_steps": 7}) == before
    assert key(control={"execute": 2}) == before
    assert key(finetune={"steps": 500}) == before
    assert key(posttrain={"steps": 201}) != before
    Path("models/system2/metrics.json").write_text("{}")
    assert key() == before


def test_another_chunk_length_keeps_the_blocks_alone(workspace: Path) -> None:
    params = learning_params(control={"chunk": 12})
    known, fresh = ActionExpert.load(Path("models/system1")), load_expert(Path("models/system1"), params, 64, 7)
    assert (known.config.horizon, fresh.config.horizon) == (8, 12)
    assert all(torch.equal(value, fresh.blocks.state_dict()[name]) for name, value in known.blocks.state_dict().items())
    assert not torch.equal(known.out.weight, fresh.out.weight)
    same = load_expert(Path("models/system1"), learning_params(), 64, 7)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in known.state_dict().items())


def test_bytes_of_a_local_source_are_part_of_the_key(workspace: Path) -> None:
    Path("qwen").mkdir()
    Path("qwen/model.safetensors").write_bytes(b"1")

    def key() -> str:
        return stage.pretrain_job(learning_params(system2={"source": "qwen"})).fingerprint

    before = key()
    Path("qwen/model.safetensors").write_bytes(b"2")
    assert key() != before


def test_a_flipped_byte_in_the_weights_of_a_stage_before_is_refused(workspace: Path) -> None:
    for name in ("system2", "system1"):
        file = Path(f"models/{name}/{name}.safetensors")
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Psi0Error, match=rf"{name}\.safetensors was changed"):
            stage.finetune_job(learning_params(), "pick_can")
        file.write_bytes(content)


def test_a_checkpoint_in_another_arithmetic_is_refused(workspace: Path) -> None:
    run_until(short(), 9)
    found = newest(only_run("finetune@pick_can"), print)
    assert found is not None
    manifest = json.loads((found[0] / MANIFEST).read_text())
    (found[0] / MANIFEST).write_text(json.dumps({**manifest, "precision": "bfloat16"}))
    with pytest.raises(Psi0Error, match=r"computed in bfloat16, this machine computes in .*delete the folder"):
        stage.finetune(short(), "pick_can", in_process=True)


def test_a_missing_input_is_named(workspace: Path) -> None:
    shutil.rmtree("models/system1")
    with pytest.raises(Psi0Error, match=r"system1 \(models/system1\) is missing"):
        stage.finetune(short(), "pick_can", in_process=True)


def test_accumulation_changes_memory_not_the_result(workspace: Path) -> None:
    stage.finetune(short(state_noise=0.0, max_delay=0), "pick_can", in_process=True)
    whole = metrics("models/policy/pick_can")
    stage.finetune(short(state_noise=0.0, max_delay=0, accumulation=2), "pick_can", in_process=True)
    assert metrics("models/policy/pick_can")["validation_loss"] == pytest.approx(whole["validation_loss"], rel=0.1)


LAUNCH = """
import sys
sys.path.insert(0, {tests!r})
from test_training import short
from psi0.train import stage
if __name__ == "__main__":
    stage.finetune(short(ranks=2, steps=60, checkpoint_every=10), "pick_can")
"""


def test_two_ranks_finish_though_one_is_killed(workspace: Path) -> None:
    """Through the real launcher: Ray Train restarts both ranks, and they go on from the last checkpoint."""
    Path("launch.py").write_text(LAUNCH.format(tests=str(Path(__file__).parent)))
    with Path("launch.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "launch.py"], stdout=log, stderr=log)
    try:
        checkpoints = Path(".psi0/checkpoints/finetune@pick_can")
        wait_for(lambda: any(checkpoints.glob("*/step-*/manifest.json")), process)
        victims = [child for child in psutil.Process(process.pid).children(recursive=True) if is_rank(child)]
        victims[-1].kill()
        assert process.wait(timeout=240) == 0, Path("launch.log").read_text()
    finally:
        process.kill()
    said = Path("launch.log").read_text()
    assert "resumed after step" in said
    rows = Path("models/policy/pick_can/history.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(61))


def is_rank(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 240
    while not condition():
        assert process.poll() is None and time.monotonic() < end, Path("launch.log").read_text()
        time.sleep(0.1)
