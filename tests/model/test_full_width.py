"""At full width, one layer deep, the published recipe takes a real optimiser step in each of its three stages."""

import json
from pathlib import Path

import pytest
import torch
from learnable import inside, write_dataset
from qwen_text import write_qwen_tokenizer
from transformers import Qwen3VLForConditionalGeneration

from psi0.model.policy_folder import load_policy
from psi0.model.untrained import qwen3_vl_2b
from psi0.params import Params, parse_params
from psi0.profiles import load_profile
from psi0.train import stage

STEP = {"steps": 1, "batch": 1, "ranks": 1, "threads": 2, "zero_stage": 0, "warmup_steps": 0, "validation_share": 0.34}


def one_layer_deep(qwen: Path) -> Params:
    """The published parameters, but for one layer of every kind and one sample in one step."""
    content = load_profile("paper").model_dump(mode="json")
    for block, changes in {
        "tokenizer": {"text": str(qwen), "samples": 500},
        "system2": {"source": str(qwen), "text_layers": 1, "vision_layers": 1},
        "system1": {"blocks": 1},
        "pretrain": {**STEP, "humanoid_everyday_steps": 0},
        "posttrain": STEP,
        "finetune": STEP,
    }.items():
        content[block] |= changes
    return parse_params(content, "one layer of the published recipe")


def write_qwen(folder: Path) -> Path:
    """A Qwen3-VL-2B of random weights, one language layer and one vision layer, as transformers saves it."""
    config = qwen3_vl_2b(151_936, text_layers=1, vision_layers=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    return write_qwen_tokenizer(folder)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_every_stage_takes_a_step(tmp_path: Path) -> None:
    params = one_layer_deep(write_qwen(tmp_path / "qwen"))
    with inside(tmp_path):
        prepared = Path("data/prepared")
        write_dataset(prepared / "egodex", "egodex", episodes=3)
        write_dataset(prepared / "humanoid_everyday", "humanoid_everyday", episodes=3, seed=1)
        write_dataset(prepared / "demonstrations/pick_can", "demonstrations", episodes=3, seed=2)
        stage.fit_tokenizer(params)
        stage.pretrain(params, in_process=True)
        stage.posttrain(params, in_process=True)
        stage.finetune(params, "pick_can", in_process=True)

        for folder in ("models/system2", "models/system1", "models/policy/pick_can"):
            found = json.loads(Path(folder, "metrics.json").read_text())
            assert found["steps"] == 1 and found["validation_loss"] != found["validation_loss_start"]
        policy = load_policy(Path("models/policy/pick_can"))
    assert policy.system2.config.hidden_size == 2048 and policy.system1.config.hidden_size == 1536
    assert policy.system2.qwen.get_input_embeddings().weight.shape[0] == 153_792
    assert policy.config.horizon == 30
