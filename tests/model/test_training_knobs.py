"""What saves memory or time and leaves the result: gradient checkpointing, and compiled blocks, at every stage."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learnable import quick_chunks, quick_workspace, tiny_params
from safetensors.torch import load_file

from psi0.model.system1 import ActionExpert
from psi0.params import System1
from psi0.train import stage
from psi0.train.compiling import compile_blocks


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_workspace(tmp_path_factory.mktemp("knobs")) as root:
        yield root


def expert(attention: str) -> ActionExpert:
    sizes = System1(hidden_size=32, blocks=3, heads=2, attention=attention)
    return ActionExpert.create(sizes, horizon=4, context_size=16, seed=0).train()


def velocity(system1: ActionExpert) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    actions, context = torch.randn(2, 4, 36, generator=draw), torch.randn(2, 5, 16, generator=draw)
    return system1.velocity(actions, torch.tensor([0.3, 0.8]), context, None, torch.randn(2, 32, generator=draw))


def gradients(system1: ActionExpert) -> list[torch.Tensor]:
    velocity(system1).square().sum().backward()
    return [value.grad for value in system1.parameters() if value.grad is not None]


def kept(system1: ActionExpert) -> int:
    """Numbers that autograd keeps."""
    numbers: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: numbers.append(value.numel()) or value, lambda v: v):
        velocity(system1)
    return sum(numbers)


@pytest.mark.parametrize("attention", ["joint", "cross"])
def test_recomputing_the_expert_keeps_less_and_changes_no_bit(attention: str) -> None:
    plain, saving = expert(attention), expert(attention)
    saving.checkpointing = True
    assert all(torch.equal(a, b) for a, b in zip(gradients(plain), gradients(saving), strict=True))
    assert kept(saving) < 0.5 * kept(plain)


@pytest.mark.parametrize("name", ["posttrain", "finetune"])
def test_a_stage_that_recomputes_leaves_the_same_weights(workspace: Path, name: str) -> None:
    def run(**fields: Any) -> dict[str, torch.Tensor]:
        params = tiny_params(**{name: quick_chunks(steps=3, warmup_steps=1, **fields)})
        if name == "posttrain":
            stage.posttrain(params, in_process=True)
            return load_file("models/system1/system1.safetensors")
        stage.finetune(params, "pick_can", in_process=True)
        return load_file("models/policy/pick_can/system2.safetensors")

    plain, saving = run(), run(gradient_checkpointing=True)
    assert all(torch.equal(value, saving[key]) for key, value in plain.items())


@pytest.mark.parametrize("attention", ["joint", "cross"])
def test_compiled_blocks_compute_the_same_under_the_same_names(attention: str) -> None:
    plain, compiled = expert(attention), expert(attention)
    said = compile_blocks(compiled, torch.device("cpu"), backend="aot_eager")
    assert said == "compile: 3 blocks are compiled in the first steps"
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for a, b in zip(gradients(plain), gradients(compiled), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_on_cpus_nothing_is_compiled_and_that_is_said(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    params = tiny_params(posttrain=quick_chunks(steps=5, compile="auto"))
    stage.posttrain(params, in_process=True)
    assert "posttrain: compile: auto compiles nothing on CPUs" in capfd.readouterr().err
    assert json.loads(Path("models/system1/metrics.json").read_text())["steps"] == 5
