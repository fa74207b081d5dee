"""A machine with `psi0[deploy]` alone: it pulls, verifies and plays a bundle, and has no torch, Ray or MuJoCo."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from psi0.connection import connect
from psi0.deploy.bundle import build_bundle
from psi0.deploy.keys import make_keys
from psi0.deploy.publish import publish
from psi0.evaluate.schemas import GateFile, read_record, write_record
from psi0.files import read_json, sha256_folder
from psi0.settings import Settings

ABSENT = ("torch", "ray", "mujoco", "mlflow", "prefect", "dvc", "transformers", "deepspeed")


def export_random_policy(folder: Path) -> None:
    """Graphs of a whole policy with random weights."""
    from psi0.export.stage import export_folder
    from psi0.model import text
    from psi0.model.policy_folder import save_policy
    from psi0.params import Export
    from tests.model.tiny_policy import ACTION_TOKENS, make_policy

    tokenizer = text.built_in_tokenizer()
    text.add_action_tokens(tokenizer, ACTION_TOKENS)
    save_policy(folder / "policy", make_policy(tokenizer))
    export_folder(folder / "policy", folder / "graphs", Export())


@pytest.fixture
def bundle(evidence: Path, s3: Settings, tmp_path: Path, use_settings: Callable[..., None]) -> Path:
    """A published bundle whose graphs really run."""
    export_random_policy(tmp_path)
    shutil.rmtree(evidence / "graphs")
    shutil.copytree(tmp_path / "graphs", evidence / "graphs")
    gate = read_record(GateFile, evidence / "gate/gate.json")
    policy_sha256 = read_json(evidence / "graphs/manifest.json")["policy_sha256"]
    identity = {"policy_sha256": policy_sha256, "graphs_sha256": sha256_folder(evidence / "graphs")}
    write_record(evidence / "gate/gate.json", gate.model_copy(update=identity))
    make_keys(tmp_path / "signer")
    use_settings(signing_key=tmp_path / "signer/signing.pem", trusted_keys=tmp_path / "signer")
    source = {"model": "psi0-pick_can", "version": "9", "git_commit": "f" * 40, "git_dirty": "false"}
    build_bundle(evidence, "pick_can", source, tmp_path / "bundle")
    publish(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_robot_pulls_verifies_and_plays_a_bundle(
    bundle: Path, checkout: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, robot, trust = checkout("source"), tmp_path / "robot", tmp_path / "trust"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python, psi0 = tmp_path / "venv/bin/python", tmp_path / "venv/bin/psi0"
    install = ["-m", "pip", "install", "-qq", "-c", source / "constraints.txt", f"{source}[deploy]"]
    subprocess.run([python, *install], check=True)
    robot.mkdir()
    trust.mkdir()
    shutil.copy(tmp_path / "signer/signing.pub", trust)
    connection = connect()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PSI0_", "PYTHON"))}
    environment |= {
        "PSI0_S3_ENDPOINT": connection.s3_endpoint,
        "PSI0_S3_ACCESS_KEY": connection.s3_access_key or "",
        "PSI0_S3_SECRET_KEY": connection.s3_secret_key or "",
        "PSI0_BUCKET": connection.bucket,
        "PSI0_TRUSTED_KEYS": str(trust),
    }

    def run(*command: str | Path) -> str:
        answer = subprocess.run(command, cwd=robot, env=environment, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    found = f"from importlib.util import find_spec; print([name for name in {ABSENT} if find_spec(name)])"
    assert run(python, "-c", found).strip() == "[]"
    assert run(psi0, "bundle", "pull", "pick_can", "--out", "policy").strip() == str(robot / "policy")
    assert "signature: valid" in run(psi0, "bundle", "verify", "policy")
    played = run(psi0, "bundle", "rehearse", "policy", "--seconds", "20")
    control = read_json(bundle / "control.json")
    assert played.startswith(f"{math.ceil(20 * control['policy_hz'] / control['execute'])} chunks: p50")
    with capsys.disabled():
        print(played)

    (trust / "signing.pub").unlink()
    make_keys(tmp_path / "other")
    shutil.copy(tmp_path / "other/signing.pub", trust)
    refused = subprocess.run(
        [psi0, "bundle", "verify", "policy"], cwd=robot, env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 1 and "is not trusted here" in refused.stderr
