"""Ranks, threads and ZeRO stages: another split of the same work, and never a compiler."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learnable import tiny_params, write_all
from safetensors.torch import load_file
from two_ranks import train_on_two_ranks

from psi0.lineage import read_lineage
from psi0.params import Training
from psi0.settings import settings
from psi0.train import stage
from psi0.train.launcher import enough_gpus
from psi0.train.precision import resolve_precision
from psi0.train.team import Team


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared datasets and a tokenizer, as current folder."""
    root = tmp_path_factory.mktemp("ranks")
    write_all(root, episodes=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        settings.cache_clear()
        stage.fit_tokenizer(tiny_params())
        yield root
    settings.cache_clear()


def quick(**fields: Any) -> Any:
    """Stage 1 in ten steps."""
    few = {"steps": 10, "humanoid_everyday_steps": 4, "validation_every": 5, "checkpoint_every": 5}
    return tiny_params(pretrain={**few, "precision": "float32", "ranks": 2, **fields})


@pytest.fixture(scope="module")
def plain(workspace: Path) -> Path:
    """Stage 1 under plain data parallel."""
    return train_on_two_ranks(stage.pretrain_job(quick(zero_stage=0)), workspace / "plain")


@pytest.mark.parametrize(
    "zero_stage", [pytest.param(1, marks=pytest.mark.long), pytest.param(2, marks=pytest.mark.long), 3]
)
def test_every_zero_stage_trains_to_the_same_weights(workspace: Path, plain: Path, zero_stage: int) -> None:
    job = stage.pretrain_job(quick(zero_stage=zero_stage))
    found = train_on_two_ranks(job, workspace / f"zero-{zero_stage}")
    expected, weights = (load_file(folder / "system2.safetensors") for folder in (plain, found))
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], atol=2e-3, rtol=0, msg=name)
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (plain, found))
    assert after["validation_loss"] == pytest.approx(before["validation_loss"], rel=1e-3)
    assert after["validation_loss"] < 0.95 * after["validation_loss_start"]


def test_the_arithmetic_is_written_down(plain: Path) -> None:
    assert read_lineage(plain).precision == "float32"
    assert json.loads((plain / "metrics.json").read_text())["bfloat16_products"] == 0


def test_two_threads_train(workspace: Path) -> None:
    try:
        stage.pretrain(quick(ranks=1, threads=2), in_process=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    found = json.loads(Path("models/system2/metrics.json").read_text())
    assert found["validation_loss"] < found["validation_loss_start"]


def test_auto_precision_follows_the_processor_and_any_other_is_kept() -> None:
    here = Team(0, 1, torch.device("cpu"))
    has = torch.cpu.get_capabilities()
    expected = "bfloat16_linear" if has.get("avx512_bf16") or has.get("amx_bf16") else "float32"
    assert resolve_precision(Training(), here) == expected
    assert resolve_precision(Training(precision="bfloat16"), here) == "bfloat16"


def test_fewer_gpus_than_ranks_leave_the_work_to_cpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert not enough_gpus(1, 2, "finetune")
    assert "finetune: 1 GPUs for 2 ranks, so the CPUs compute; set finetune.ranks to 1" in capsys.readouterr().err
    assert enough_gpus(2, 2, "finetune") and not enough_gpus(0, 2, "finetune")
    assert not capsys.readouterr().err
