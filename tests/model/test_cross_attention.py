"""The plain DiT in place of joint attention: trained, exported and guided like it, and never taken for it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learnable import quick_chunks, quick_workspace, tiny_params
from tiny_policy import HORIZON, SYSTEM1
from typer.testing import CliRunner

from psi0.cli import app
from psi0.errors import Psi0Error
from psi0.export.parity import load_golden, policy_errors
from psi0.export.runtime import GraphPolicy
from psi0.export.stage import export_folder
from psi0.files import read_json, write_json
from psi0.model.config import System1Config
from psi0.model.cross_block import CrossBlock
from psi0.model.policy_folder import PolicyFolder, load_policy, save_policy
from psi0.model.published import published_parameters
from psi0.model.system1 import ActionExpert
from psi0.params import Export, Params, parse_params
from psi0.train import stage
from psi0.train.flow_chunks import load_expert
from psi0.train.plan import plan

CROSS = SYSTEM1.model_copy(update={"attention": "cross"})


def expert(seed: int = 1) -> ActionExpert:
    return ActionExpert.create(CROSS, horizon=HORIZON, context_size=64, seed=seed).eval()


@pytest.mark.parametrize("count", [1, 5])
def test_a_block_updates_the_actions_and_leaves_the_observations(count: int) -> None:
    block = CrossBlock(32, 4)
    actions, observations, time = torch.randn(2, 6, 32), torch.randn(2, count, 32), torch.randn(2, 1, 32)
    own, other = block.modulate(time, time, None)
    assert [vector.shape for vector in own] == [(2, 1, 32)] * 9 and other == ()
    changed, same = block(actions, observations, (own, other), None)
    assert same is observations and changed.shape == actions.shape and not torch.equal(changed, actions)
    elsewhere, _ = block(actions, observations + torch.randn(count, 32), (own, other), None)
    assert not torch.equal(changed, elsewhere)


def test_a_block_sees_neither_hidden_observations_nor_their_absence() -> None:
    block = CrossBlock(32, 4)
    actions, observations, time = torch.randn(2, 6, 32), torch.randn(2, 5, 32), torch.randn(2, 1, 32)
    mask = torch.zeros(2, 1, 1, 6 + 5)
    mask[..., -2:] = -3e4
    modulation = block.modulate(time, time, None)
    hidden, _ = block(actions, observations, modulation, mask)
    without, _ = block(actions, observations[:, :3], modulation, None)
    torch.testing.assert_close(hidden, without)


def test_every_noise_level_and_every_prefix_has_its_velocity() -> None:
    system1, draw = expert(), torch.Generator().manual_seed(0)
    actions, context = torch.randn(1, HORIZON, 36, generator=draw), torch.randn(1, 5, 64, generator=draw)
    state = torch.zeros(1, 32)
    found = [
        system1.velocity(actions, torch.tensor([level]), context, None, state, torch.arange(HORIZON)[None] >= clean)
        for level in (0.0, 1e-3, 0.5, 1.0)
        for clean in (0, 1, 3)
    ]
    assert all(one.isfinite().all() for one in found)
    # At level 0 clean and late actions are the same; everywhere else a prefix matters.
    assert len({one.detach().numpy().tobytes() for one in found[3:]}) == len(found[3:])


def test_the_file_names_the_kind_where_it_is_not_the_published_one(tmp_path: Path) -> None:
    expert().save(tmp_path / "cross")
    assert read_json(tmp_path / "cross/system1.json")["attention"] == "cross"
    assert ActionExpert.load(tmp_path / "cross").config.attention == "cross"
    ActionExpert.create(SYSTEM1, horizon=HORIZON, context_size=64, seed=1).save(tmp_path / "joint")
    assert "attention" not in read_json(tmp_path / "joint/system1.json")


def test_weights_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    expert().save(tmp_path)
    write_json(tmp_path / "system1.json", read_json(tmp_path / "system1.json") | {"attention": "joint"})
    with pytest.raises(Psi0Error, match=r"system1\.safetensors does not fit its configuration"):
        ActionExpert.load(tmp_path)
    with pytest.raises(Psi0Error, match=r"system1\.attention.*'joint' or 'cross'"):
        parse_params({"system1": {"attention": "plain"}}, "params.yaml")


def test_the_published_layout_has_no_place_for_it(tmp_path: Path) -> None:
    expert().save(tmp_path)
    answer = CliRunner().invoke(app, ["policy", "save-official", str(tmp_path), str(tmp_path / "out.safetensors")])
    assert answer.exit_code != 0 and not (tmp_path / "out.safetensors").exists()
    assert "system1.attention is cross" in answer.output + str(answer.exception)
    with pytest.raises(Psi0Error, match=r"system1\.attention is cross"):
        published_parameters(System1Config(horizon=8, context_size=64, attention="cross"))


@pytest.mark.parametrize("guidance", [0.0, 5.0])
def test_graphs_compute_what_torch_does(policy: PolicyFolder, tmp_path: Path, guidance: float) -> None:
    config = policy.config.model_copy(update={"guidance": guidance})
    save_policy(tmp_path / "policy", dataclasses.replace(policy, system1=expert(), config=config))
    export_folder(tmp_path / "policy", tmp_path / "graphs", Export())
    report = read_json(tmp_path / "graphs/parity.json")
    assert report["passed"] and report["max_abs_error"]["actions"] <= 1e-4
    assert ("s1_guided" in report["max_abs_error"]) == bool(guidance)
    assert max(policy_errors(GraphPolicy(tmp_path / "graphs"), load_golden(tmp_path / "graphs"))) <= 1e-4


def test_the_plan_counts_it() -> None:
    joint, cross = plan(Params()), plan(Params.model_validate({"system1": {"attention": "cross"}}))
    for one, other in zip(joint[1:], cross[1:], strict=True):
        # A block holds 25 matrices of the width squared in place of 36, and 22 in the last one.
        assert 0.8 < other.cost.trained / one.cost.trained < 1
        assert other.cost.flops < one.cost.flops


@pytest.mark.parametrize("precision", ["float32", "bfloat16_linear"])
def test_stages_2_and_3_train_it(tmp_path: Path, precision: str) -> None:
    def params(**changes: dict[str, Any]) -> Params:
        quick = quick_chunks(steps=3, warmup_steps=1, precision=precision, gradient_checkpointing=True)
        blocks: dict[str, dict[str, Any]] = {
            "system1": {"attention": "cross"},
            "posttrain": quick,
            "finetune": quick,
        }
        return tiny_params(**(blocks | changes))

    with quick_workspace(tmp_path):
        stage.posttrain(params(), in_process=True)
        system1 = Path("models/system1")
        assert ActionExpert.load(system1).config.attention == "cross"
        # What stage 2 left decides, also where only its blocks are kept.
        fresh = load_expert(system1, params(control={"chunk": 12}, system1={"attention": "joint"}), 64, 7)
        known = ActionExpert.load(system1)
        assert fresh.config.attention == "cross" and fresh.config.horizon == 12
        assert torch.equal(fresh.blocks.state_dict()["0.query.weight"], known.blocks.state_dict()["0.query.weight"])
        stage.finetune(params(), "pick_can", in_process=True)
        found = load_policy(Path("models/policy/pick_can"))
        assert isinstance(found.system1.blocks[0], CrossBlock)
        assert np.isfinite(read_json(Path("models/policy/pick_can/metrics.json"))["action_error"])
