"""The plan counts what the modules hold, divides memory as ZeRO does, and refuses what cannot be dealt out."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from psi0.cli import app
from psi0.errors import Psi0Error
from psi0.params import Params
from psi0.profiles import load_profile
from psi0.train.plan import StagePlan, plan

GB = 1e9


@pytest.fixture(scope="module")
def paper() -> dict[str, StagePlan]:
    profiles = Path(__file__).parents[2] / "params"
    return {one.stage: one for one in plan(load_profile("paper", profiles), 64)}


def test_the_paper_model_has_the_published_sizes(paper: dict[str, StagePlan]) -> None:
    assert paper["pretrain"].cost.parameters == paper["pretrain"].cost.trained == 2_131_333_120
    # What the publication counts besides: its position table and frequencies, and the queries that nobody reads.
    unused = 5000 * 1536 + 128 + 1536 * 1537
    horizon = (30 - 16) * 1536
    for stage, chunk in (("posttrain", 0), ("finetune", horizon)):
        expert = paper[stage].cost.parameters - 2_131_333_120
        assert expert == paper[stage].cost.trained, "the VLM is frozen"
        assert expert + unused == 497_719_256 - horizon + chunk


def test_operations_are_about_those_of_the_rule_of_thumb(paper: dict[str, StagePlan]) -> None:
    tokens = 80 + 64
    # Six per weight and token, and two more where layers are recomputed; vision sees four times the tokens.
    text_weights, vision_weights = 1.41e9, 0.31e9
    expected = 8 * tokens * (text_weights + 4 * vision_weights)
    assert paper["pretrain"].cost.flops == pytest.approx(expected, rel=0.25)
    assert paper["posttrain"].cost.flops < paper["pretrain"].cost.flops / 3, "a frozen VLM has no backward pass"


def test_passes_over_the_published_data(paper: dict[str, StagePlan]) -> None:
    text = "\n".join(paper["pretrain"].lines())
    assert "2.3 passes over 90,000,000 frames of egodex" in text
    assert "10.2 passes over 3,000,000 frames of humanoid_everyday" in text
    assert "15,360 GPU hours" in text


def test_zero_divides_what_it_says_it_divides() -> None:
    everything = load_profile("tiny")

    def state(zero: int, gpus: int) -> int:
        own = everything.pretrain.model_copy(update={"zero_stage": zero})
        return plan(everything.model_copy(update={"pretrain": own}), gpus)[0].state_bytes

    trained = plan(everything, 2)[0].cost.trained
    assert state(0, 2) == state(0, 4) == 16 * trained
    assert state(3, 4) == 20 * trained // 4
    assert state(0, 4) > state(1, 4) > state(2, 4) > state(3, 4)


def test_switches_that_save_or_cost_memory_are_counted() -> None:
    frozen = {"cache_features": True, "image_shift": 0, "ema": 0.99, "gradient_checkpointing": True}
    low_rank = {"lora_rank": 4, "gradient_checkpointing": True}
    plain = plan(Params())
    changed = plan(Params.model_validate({"pretrain": low_rank, "posttrain": frozen, "finetune": low_rank}))
    assert all(new.activation_bytes < old.activation_bytes for new, old in zip(changed, plain, strict=True))
    first, second, third = range(3)
    for stage in (first, third):
        updates = changed[stage].cost.parameters - plain[stage].cost.parameters
        assert 0 < updates < changed[stage].cost.trained < plain[stage].cost.trained
        assert changed[stage].state_bytes < plain[stage].state_bytes
        assert changed[stage].checkpoint_bytes < plain[stage].checkpoint_bytes
    trained = plain[second].cost.trained
    assert changed[second].state_bytes == plain[second].state_bytes + 4 * trained
    assert changed[second].checkpoint_bytes == plain[second].checkpoint_bytes + 4 * trained
    assert changed[second].cost.flops < plain[second].cost.flops
    # 128 numbers for each of 32 tokens of text, and for those of the image.
    assert changed[second].cost.features > 32 * 128 and changed[second].cost.features % 128 == 0
    assert "features" in changed[second].lines()[-1] and "features" not in "".join(plain[second].lines())


def test_training_both_networks_at_once_is_counted() -> None:
    plain = plan(Params())[1]
    both = plan(Params.model_validate({"posttrain": {"cotrain": True}}))[1]
    saving = plan(Params.model_validate({"posttrain": {"cotrain": True, "gradient_checkpointing": True}}))[1]
    assert both.cost.parameters == plain.cost.parameters == both.cost.trained > plain.cost.trained
    assert both.cost.flops > plan(Params())[0].cost.flops + plain.cost.flops
    assert saving.activation_bytes < both.activation_bytes and saving.cost.flops > both.cost.flops
    text = "\n".join(both.lines())
    assert "9,600 of egodex and humanoid_everyday, whose frames are not counted yet" in text


def test_passes_over_both_datasets_are_counted_together() -> None:
    profile = load_profile("paper", Path(__file__).parents[2] / "params")
    own = profile.posttrain.model_copy(update={"cotrain": True})
    text = "\n".join(plan(profile.model_copy(update={"posttrain": own}), 64)[1].lines())
    assert "20.5 passes over 3,000,000 frames of humanoid_everyday" in text
    assert "0.7 passes over 93,000,000 frames of egodex and humanoid_everyday" in text


def test_a_batch_that_cannot_be_dealt_out_is_named() -> None:
    with pytest.raises(Psi0Error, match=r"pretrain\.batch 24 .* 7 GPUs"):
        plan(Params(), 7)
    with pytest.raises(Psi0Error, match="utilisation"):
        plan(Params(), 2, utilisation=1.5)


def test_the_command_prints_every_stage(in_repository: None) -> None:
    answer = CliRunner().invoke(app, ["train", "plan", "--profile", "tiny", "--gpus", "2"])
    assert answer.exit_code == 0, answer.output
    assert all(name in answer.output for name in ("pretrain", "posttrain", "finetune", "memory per GPU", "checkpoint"))
