"""Policy folders: what is written is read back, what was changed is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from psi0.errors import Psi0Error
from psi0.model import manifest
from psi0.model.policy_config import policy_sha256
from psi0.model.policy_folder import PolicyFolder, load_policy, save_policy
from psi0.model.torch_policy import TorchPolicy
from psi0.policy import Observation, Policy


@pytest.fixture
def copy(policy_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(policy_folder, tmp_path / "copy"))


def test_round_trip(policy: PolicyFolder, policy_folder: Path) -> None:
    again = load_policy(policy_folder)
    assert again.config == policy.config and again.layout == policy.layout and again.lineage == policy.lineage
    assert again.normalizer.to_json() == policy.normalizer.to_json()
    for part in ("system1", "system2"):
        expected = getattr(policy, part).state_dict()
        found = getattr(again, part).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert again.tokenizer.to_str() == policy.tokenizer.to_str()
    assert len(again.layout.action_names) == 36 and len(again.layout.state_names) == 32


def test_writing_twice_gives_the_same_bytes(policy: PolicyFolder, policy_folder: Path, tmp_path: Path) -> None:
    save_policy(tmp_path / "again", policy)
    names = sorted(path.name for path in policy_folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert all((policy_folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_identity_is_that_of_the_numbers(policy: PolicyFolder, policy_folder: Path, copy: Path) -> None:
    content = json.loads((copy / "lineage.json").read_text())
    (copy / "lineage.json").write_text(json.dumps(content | {"params_sha256": "another"}))
    assert policy_sha256(copy) == policy_sha256(policy_folder)
    (copy / "normalizer.json").write_text("{}")
    assert policy_sha256(copy) != policy_sha256(policy_folder)


@pytest.mark.parametrize("name", ["system1.safetensors", "system2.safetensors", "normalizer.json", "config.json"])
def test_a_flipped_byte_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(Psi0Error, match=name):
        load_policy(copy)


def test_a_missing_file_is_refused(copy: Path) -> None:
    (copy / "text_tokenizer.json").unlink()
    with pytest.raises(Psi0Error, match=r"text_tokenizer\.json"):
        load_policy(copy)


def test_no_manifest_is_refused(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(Psi0Error, match=r"manifest\.json"):
        load_policy(copy)


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "system1.json", "system2.json", "normalizer.json"])
def test_another_schema_version_is_refused(copy: Path, name: str) -> None:
    content = json.loads((copy / name).read_text()) | {"schema_version": 99}
    (copy / name).write_text(json.dumps(content))
    if name != "manifest.json":
        manifest.write_manifest(copy)
    with pytest.raises(Psi0Error, match=rf"{name}.*schema_version 99"):
        load_policy(copy)


def test_an_edited_manifest_is_refused(copy: Path) -> None:
    content = json.loads((copy / "manifest.json").read_text())
    del content["files"]["config.json"]
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(Psi0Error, match="changed"):
        load_policy(copy)


def test_the_torch_policy_is_a_policy(policy_folder: Path, policy: PolicyFolder) -> None:
    player = TorchPolicy(policy_folder)
    assert isinstance(player, Policy) and not player.privileged
    observation = Observation(
        head_camera=np.zeros((48, 64, 3), np.uint8),
        state=np.zeros(32, np.float32),
        instruction="pick up the can",
        step=0,
        previous_chunk=None,
        delay=0,
    )
    player.reset(3)
    first, second = player.act(observation), player.act(observation)
    player.reset(3)
    assert first.shape == (policy.config.horizon, 36) and first.dtype == np.float32
    assert np.array_equal(player.act(observation), first) and not np.array_equal(first, second)
    action = policy.normalizer.action
    assert (first >= action.low).all() and (first <= action.high).all()
