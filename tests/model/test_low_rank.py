"""LoRA: nothing changes before the first step, only the updates learn, and the merged weights compute the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learnable import quick_chunks, quick_workspace, tiny_params
from safetensors.torch import load_file
from tiny_policy import HEIGHT, WIDTH, make_system2
from tokenizers import Tokenizer
from torch import Tensor

from psi0.errors import Psi0Error
from psi0.files import sha256_file
from psi0.model.linear import use_bfloat16_products
from psi0.model.low_rank import LowRank, add_low_rank, learn_new_parts, merge_low_rank
from psi0.model.policy_folder import load_policy
from psi0.model.system2 import System2
from psi0.params import parse_params
from psi0.train import stage

RANK = 4


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_workspace(tmp_path_factory.mktemp("low_rank")) as root:
        yield root


def see(system2: System2, tokenizer: Tokenizer) -> Tensor:
    prompt = system2.make_prompt(tokenizer)
    tokens = prompt.batch(["pick up the can", "wait"], length=prompt.length)
    images = torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(0)).byte()
    return system2.encode(images, torch.from_numpy(tokens.ids), torch.from_numpy(tokens.mask)).hidden


def updates(system2: System2) -> dict[str, Tensor]:
    return {name: value for name, value in system2.named_parameters() if "low_rank" in name}


def moved(system2: System2) -> None:
    """Updates that did learn something."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in updates(system2).values():
            value.copy_(0.1 * torch.randn(value.shape, generator=draw))


@pytest.mark.parametrize("products", ["float32", "bfloat16_linear"])
def test_nothing_changes_before_the_first_step(tokenizer: Tokenizer, products: str) -> None:
    system2 = make_system2(tokenizer)
    expected = see(system2, tokenizer)
    if products == "bfloat16_linear":
        use_bfloat16_products(system2)
    add_low_rank(system2, RANK, 16.0, seed=0)
    assert torch.equal(see(system2, tokenizer), expected)
    learning = {name for name, value in system2.qwen.named_parameters() if value.requires_grad}
    assert learning and all("low_rank" in name for name in learning)
    learn_new_parts(system2)
    more = {name for name, value in system2.qwen.named_parameters() if value.requires_grad} - learning
    assert any("embed_tokens" in name for name in more) and any("patch_embed" in name for name in more)
    assert all("embed_tokens" in name or "patch_embed" in name for name in more)


@pytest.mark.parametrize("products", ["float32", "bfloat16_linear"])
def test_the_merged_network_computes_the_same_and_looks_like_a_plain_one(tokenizer: Tokenizer, products: str) -> None:
    system2 = make_system2(tokenizer)
    before = see(system2, tokenizer)
    names = {name: value.shape for name, value in system2.state_dict().items()}
    kinds = [type(layer) for layer in system2.modules()]
    if products == "bfloat16_linear":
        use_bfloat16_products(system2)
        kinds = [type(layer) for layer in system2.modules()]
    add_low_rank(system2, RANK, 16.0, seed=0)
    moved(system2)
    learned = see(system2, tokenizer)
    assert (learned - before).abs().max() > 1e-2
    merge_low_rank(system2)
    torch.testing.assert_close(see(system2, tokenizer), learned, atol=1e-5, rtol=1e-4)
    assert {name: value.shape for name, value in system2.state_dict().items()} == names
    assert [type(layer) for layer in system2.modules()] == kinds


def test_every_linear_layer_of_the_blocks_takes_its_part_in_training(tokenizer: Tokenizer) -> None:
    system2 = make_system2(tokenizer).train()
    use_bfloat16_products(system2)
    add_low_rank(system2, RANK, 16.0, seed=0)
    moved(system2)
    see(system2, tokenizer).square().sum().backward()
    found = updates(system2)
    # q, k, v, o, gate, up, down of the language model; qkv, proj, fc1, fc2 of the vision tower; both halves.
    assert len(found) == 2 * (7 + 4)
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in found.values())
    assert sum(isinstance(layer, LowRank) for layer in system2.modules()) == 11


def params(**finetune: Any) -> Any:
    return tiny_params(finetune=quick_chunks(**finetune))


def test_fine_tuning_publishes_a_plain_policy(workspace: Path) -> None:
    stage.finetune(params(lora_rank=RANK, key_point_loss=0.0), "pick_can", in_process=True)
    job = stage.finetune_job(params(lora_rank=RANK, key_point_loss=0.0), "pick_can")
    weights = load_file(max(job.folder.glob("step-*")) / "weights.safetensors")
    assert all(name.startswith("system1.") or "low_rank" in name for name in weights)
    before = load_file("models/system2/system2.safetensors")
    after = load_file("models/policy/pick_can/system2.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all(".layers." in name or ".blocks." in name for name in changed)
    assert load_policy(Path("models/policy/pick_can")).system2.config.key_points == 0


def test_pre_training_with_updates_learns_the_token_table_too(workspace: Path) -> None:
    few = {"steps": 4, "warmup_steps": 1, "humanoid_everyday_steps": 1, "precision": "float32", "lora_rank": RANK}
    before = sha256_file(Path("models/system2/system2.safetensors"))
    stage.pretrain(tiny_params(pretrain=few), in_process=True)
    assert sha256_file(Path("models/system2/system2.safetensors")) != before
    assert not any("low_rank" in name for name in load_file("models/system2/system2.safetensors"))


def test_updates_of_a_frozen_system2_are_refused() -> None:
    with pytest.raises(Psi0Error, match=r"finetune: lora_rank is how System-2 learns; set tune_system2"):
        parse_params({"finetune": {"lora_rank": 4, "tune_system2": False}}, "params.yaml")
