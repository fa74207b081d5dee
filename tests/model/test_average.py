"""The moving average of the weights: its formula, what it leaves alone, and that a resumed run ends the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learnable import quick_chunks, quick_workspace, tiny_params
from safetensors.torch import load_file
from torch import Tensor, nn
from two_ranks import train_on_two_ranks

from psi0.errors import Psi0Error
from psi0.files import sha256_folder
from psi0.params import parse_params
from psi0.train import stage
from psi0.train.average import Average, decay_at
from psi0.train.worker import train_here

DECAY = 0.9


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_workspace(tmp_path_factory.mktemp("average")) as root:
        yield root


def params(ema: float, **fields: Any) -> Any:
    return tiny_params(finetune=quick_chunks(ema=ema, **fields))


def last_checkpoint(job: Any) -> Path:
    return max(job.folder.glob("step-*"))


def test_the_formula_and_its_rise() -> None:
    layer = nn.Linear(2, 3)
    expected = layer.weight.detach().clone()
    average = Average(layer, DECAY)
    for step in range(200):
        with torch.no_grad():
            layer.weight.add_(0.1 * (step + 1))
        average.update(step)
        decay = min(DECAY, (2 + step) / (11 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    torch.testing.assert_close(average.state()["weight"], expected, rtol=1e-4, atol=1e-4)
    assert decay_at(0, DECAY) == 2 / 11 and decay_at(10_000, DECAY) == DECAY


def test_the_weights_come_back_bit_for_bit() -> None:
    layer = nn.Linear(4, 4)
    layer.bias.requires_grad_(False)
    average = Average(layer, DECAY)
    with torch.no_grad():
        layer.weight.mul_(1.7)
    own, mean = layer.weight.detach().clone(), average.state()["weight"]
    with average.in_place():
        assert torch.equal(layer.weight, mean)
    assert torch.equal(layer.weight, own) and torch.equal(average.state()["weight"], mean)
    assert set(average.state()) == {"weight"}
    with pytest.raises(Psi0Error, match="does not fit"):
        average.load({"other": torch.zeros(1)})


def system1(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("system1."): value for name, value in tensors.items() if name.startswith("system1.")}


def test_it_is_published_and_changes_no_step(workspace: Path) -> None:
    stage.finetune(params(0.0), "pick_can", in_process=True)
    plain = stage.finetune_job(params(0.0), "pick_can")
    own = load_file(last_checkpoint(plain) / "weights.safetensors")
    assert not (last_checkpoint(plain) / "average.safetensors").exists()
    assert torch.equal(load_file("models/policy/pick_can/system1.safetensors")["out.weight"], own["system1.out.weight"])
    before = json.loads(Path("models/policy/pick_can/metrics.json").read_text())

    stage.finetune(params(DECAY), "pick_can", in_process=True)
    folder = last_checkpoint(stage.finetune_job(params(DECAY), "pick_can"))
    weights, mean = load_file(folder / "weights.safetensors"), load_file(folder / "average.safetensors")
    assert all(torch.equal(value, own[name]) for name, value in weights.items())
    published = load_file("models/policy/pick_can/system1.safetensors")
    assert all(torch.equal(value, published[name]) for name, value in system1(mean).items())
    assert not torch.equal(mean["system1.out.weight"], own["system1.out.weight"])
    after = json.loads(Path("models/policy/pick_can/metrics.json").read_text())
    assert after["training_loss"] == before["training_loss"]
    assert after["validation_loss_start"] == before["validation_loss_start"]
    assert after["validation_loss"] != before["validation_loss"] and after["action_error"] != before["action_error"]


class Killed(BaseException):
    """Stands for the end of the process."""


def test_an_interrupted_run_ends_with_the_same_bytes(workspace: Path) -> None:
    changed = params(DECAY, seed=8)
    stage.finetune(changed, "pick_can", in_process=True)
    expected = sha256_folder(Path("models/policy/pick_can"))
    job = stage.finetune_job(changed, "pick_can")
    for folder in job.folder.glob("step-*"):
        (folder / "manifest.json").unlink()

    def kill(done: int) -> None:
        if done == 6:
            raise Killed

    with pytest.raises(Killed):
        train_here(job, kill)
    assert last_checkpoint(job).name == "step-00000008" and (job.folder / "step-00000004/manifest.json").exists()
    stage.finetune(changed, "pick_can", in_process=True)
    assert sha256_folder(Path("models/policy/pick_can")) == expected


@pytest.mark.parametrize("zero_stage", [pytest.param(0, marks=pytest.mark.long), 1])
def test_two_ranks_publish_the_average(workspace: Path, zero_stage: int) -> None:
    job = stage.posttrain_job(tiny_params(posttrain=quick_chunks(ema=DECAY, ranks=2, zero_stage=zero_stage)))
    result = train_on_two_ranks(job, workspace / f"zero-{zero_stage}")
    mean = system1(load_file(last_checkpoint(job) / "average.safetensors"))
    own = system1(load_file(last_checkpoint(job) / "weights.safetensors"))
    published = load_file(result / "system1.safetensors")
    assert published.keys() == mean.keys()
    assert all(torch.equal(value, published[name]) for name, value in mean.items())
    assert not torch.equal(mean["out.weight"], own["out.weight"])


def test_zero_stage_three_is_refused() -> None:
    with pytest.raises(Psi0Error, match=r"finetune: ema needs whole weights .* zero_stage to 0, 1 or 2"):
        parse_params({"finetune": {"ema": 0.99, "zero_stage": 3, "optimizer": "adamw"}}, "params.yaml")
