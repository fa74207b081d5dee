"""Bundles: the same bytes from the same evidence, refused with one byte changed, found through a pointer."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from psi0 import storage
from psi0.connection import connect
from psi0.deploy.bundle import build_bundle, joint_map
from psi0.deploy.demo import find_bundle
from psi0.deploy.manifest import GivenSystem0, System0, parse_sums, read_manifest
from psi0.deploy.publish import publish, published, read_pointer
from psi0.deploy.pull import pull
from psi0.deploy.verify import verify, verify_folder
from psi0.errors import Psi0Error
from psi0.files import folder_files, read_json, sha256_file, write_json
from psi0.robot.assets import SYSTEM0_PACKAGE
from psi0.robot.layout import ACTION_NAMES
from psi0.settings import Settings

SOURCE = {"model": "psi0-pick_can", "version": "3", "git_commit": "f" * 40, "git_dirty": "false"}


@pytest.fixture
def bundle(evidence: Path, tmp_path: Path, use_settings: Callable[..., None]) -> Path:
    use_settings(home=tmp_path / "home")
    build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_the_same_evidence_gives_the_same_bundle(bundle: Path, evidence: Path, tmp_path: Path) -> None:
    name = build_bundle(evidence, "pick_can", SOURCE, tmp_path / "again")
    assert verify_folder(bundle).name == name
    for file in folder_files(bundle):
        if file.name != "signature.json":
            assert sha256_file(bundle / file) == sha256_file(tmp_path / "again" / file), file


def test_a_bundle_says_what_it_is(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.source.version == "3"
    assert manifest.evidence.successes == 39
    assert isinstance(manifest.system0, System0) and manifest.system0.package == SYSTEM0_PACKAGE[0]
    assert not [file for file in folder_files(bundle) if "g1_29dof" in file.name], "System-0 is named, not contained"
    for file in [*manifest.graphs, *manifest.files.values()]:
        assert (bundle / file).is_file(), file
    assert verify_folder(bundle).signature.startswith("valid")


def test_every_joint_has_a_motor_and_every_command_its_unit() -> None:
    entries = joint_map()["action"]
    assert [entry["name"] for entry in entries] == list(ACTION_NAMES)
    motors = {entry["name"]: (entry["device"], entry.get("motor")) for entry in entries}
    assert motors["left_shoulder_pitch_joint"] == ("g1", 15)
    assert motors["right_wrist_yaw_joint"] == ("g1", 28)
    assert motors["right_hand_thumb_0_joint"] == ("dex3_right", 0)
    assert motors["height"] == ("system0", None)
    assert len(set(motors.values()) - {("system0", None)}) == 28


def test_a_system0_given_as_files_is_named_and_not_contained(evidence: Path, tmp_path: Path) -> None:
    files = {"amo_jit.pt": "1" * 64, "adapter_jit.pt": "2" * 64, "adapter_norm_stats.pt": "3" * 64}
    params = yaml.safe_load((evidence / "params.yaml").read_text())
    params["robot"]["system0"] = "downloads/amo"
    (evidence / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(Psi0Error, match=r"system0\.json is missing"):
        build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")
    write_json(evidence / "system0.json", {"schema_version": 1, "kind": "amo", "files": files})
    build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")
    assert read_json(tmp_path / "bundle/manifest.json")["system0"] == {"kind": "amo", "files": files}
    given = read_manifest(tmp_path / "bundle").system0
    assert isinstance(given, GivenSystem0) and given.files == files
    assert not [file for file in folder_files(tmp_path / "bundle") if file.suffix == ".pt"]


def test_evidence_that_contradicts_itself_about_system0_becomes_no_bundle(evidence: Path, tmp_path: Path) -> None:
    write_json(evidence / "system0.json", {"schema_version": 1, "kind": "amo", "files": {"amo_jit.pt": "1" * 64}})
    with pytest.raises(Psi0Error, match=r"system0\.json names another System-0 than params\.yaml"):
        build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")


@pytest.mark.parametrize("verdict", ["refuse", "void"])
def test_what_did_not_pass_becomes_no_bundle(verdict: str, tmp_path: Path) -> None:
    from tests.code.conftest import make_evidence

    with pytest.raises(Psi0Error, match=verdict):
        build_bundle(make_evidence(tmp_path / "version", verdict), "pick_can", SOURCE, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_graphs_that_were_not_judged_become_no_bundle(evidence: Path, tmp_path: Path) -> None:
    (evidence / "graphs/extra.json").write_text("{}")
    with pytest.raises(Psi0Error, match="judged"):
        build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")


def _flip(bundle: Path) -> None:
    file = bundle / "graphs/s1_step.onnx"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(bytes(content))


def _remove(bundle: Path) -> None:
    (bundle / "limits.json").unlink()


def _add(bundle: Path) -> None:
    (bundle / "graphs/s1_step.onnx.data").write_bytes(b"more")


def _link(bundle: Path) -> None:
    (bundle / "limits.json").rename(bundle.parent / "limits.json")
    (bundle / "limits.json").symlink_to(bundle.parent / "limits.json")


def _no_sums(bundle: Path) -> None:
    (bundle / "SHA256SUMS").unlink()


def _no_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def _future(bundle: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**content, "schema_version": 2}))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_flip, "graphs/s1_step.onnx was changed"),
        (_remove, "limits.json is missing"),
        (_add, "s1_step.onnx.data does not belong"),
        (_link, "symbolic link"),
        (_no_sums, "SHA256SUMS is missing"),
        (_no_manifest, "manifest.json is missing"),
        (_future, "schema_version 2"),
    ],
)
def test_a_harmed_bundle_is_refused_by_name(bundle: Path, harm: Callable[[Path], None], words: str) -> None:
    harm(bundle)
    with pytest.raises(Psi0Error, match=words):
        verify(str(bundle))


@pytest.mark.parametrize(
    "line", ["00  manifest.json", f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd", f"{'0' * 64}  a\\b"]
)
def test_sums_that_lead_elsewhere_are_refused(line: str) -> None:
    with pytest.raises(Psi0Error, match="SHA256SUMS"):
        parse_sums(f"{'1' * 64}  manifest.json\n{line}\n", "bundle")


def test_publish_pull_and_verify(s3: Settings, evidence: Path, tmp_path: Path) -> None:
    with pytest.raises(Psi0Error, match=r"is published on channel .stable. yet"):
        published("pick_can")
    name = build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")
    pointer = publish(tmp_path / "bundle")
    assert pointer.address == f"s3://{connect().bucket}/bundles/pick_can/{name}"
    assert read_pointer("pick_can") == pointer
    assert publish(tmp_path / "bundle").address == pointer.address, "doing it again is harmless"
    assert verify(pointer.address).name == name
    assert find_bundle(None, "pick_can") == find_bundle(pointer.address, "pick_can")
    folder = pull(pointer.address, tmp_path / "robot")
    assert verify_folder(folder).signature.startswith("valid")


def test_a_harmed_upload_never_becomes_the_published_one(s3: Settings, evidence: Path, tmp_path: Path) -> None:
    connection = connect()
    client = storage.client(connection)
    build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")
    first = publish(tmp_path / "bundle")
    second = build_bundle(evidence, "pick_can", {**SOURCE, "version": "4"}, tmp_path / "next")
    key = f"bundles/pick_can/{second}/graphs/s1_step.onnx"
    honest = (tmp_path / "next/graphs/s1_step.onnx").read_bytes()
    sha256 = sha256_file(tmp_path / "next/graphs/s1_step.onnx")
    client.put_object(Bucket=connection.bucket, Key=key, Body=b"X" + honest[1:], Metadata={"sha256": sha256})
    with pytest.raises(Psi0Error, match=r"s1_step\.onnx was changed"):
        publish(tmp_path / "next")
    assert read_pointer("pick_can") == first, "the pointer moves last"
    address = f"s3://{connection.bucket}/bundles/pick_can/{second}"
    with pytest.raises(Psi0Error, match=r"s1_step\.onnx was changed"):
        verify(address)
    with pytest.raises(Psi0Error, match=r"s1_step\.onnx was changed"):
        pull(address, tmp_path / "robot")
    assert not (tmp_path / "robot").exists(), "nothing appears unless it is whole"
    client.put_object(Bucket=connection.bucket, Key=key, Body=honest, Metadata={"sha256": sha256})
    assert publish(tmp_path / "next").version == "4"
    client.delete_object(Bucket=connection.bucket, Key=f"bundles/pick_can/{second}/limits.json")
    with pytest.raises(Psi0Error, match=r"limits\.json is missing"):
        verify(address)


def test_addresses_that_hold_nothing_are_refused(s3: Settings) -> None:
    with pytest.raises(Psi0Error, match="no bundle"):
        verify(f"s3://{connect().bucket}/bundles/none")
    with pytest.raises(Psi0Error, match="s3://bucket/prefix"):
        verify("s3://")
    with pytest.raises(Psi0Error, match="no folder"):
        verify("nowhere")


def test_deployment_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys\n"
        "import psi0.deploy.pull, psi0.deploy.verify, psi0.deploy.bundle, psi0.deploy.demo, psi0.deploy.latency\n"
        "import psi0.export.runtime, psi0.export.engine.build\n"
        "print(sorted({'torch', 'ray', 'transformers', 'mlflow', 'prefect'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
