"""The published action head: read, compared with what was recorded from it, and written back bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from psi0.cli import app
from psi0.errors import Psi0Error
from psi0.model.config import System1Config
from psi0.model.published import (
    FREQUENCIES,
    POSITIONS,
    computed_constants,
    from_published,
    published_parameters,
    read_published,
    read_sizes,
    save_imported,
    save_published,
)
from psi0.model.published_check import compare
from psi0.model.system1 import ActionExpert

FIXTURE = Path(__file__).parent / "fixtures" / "official_action_head"
WEIGHTS, SIZES, RECORDED = FIXTURE / "model.safetensors", FIXTURE / "config.json", FIXTURE / "io.safetensors"
OUTPUTS = ("velocity_per_sample_nomask", "velocity_per_sample_mask", "velocity_per_step_mask", "sampled_actions")


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return load_file(WEIGHTS)


def run(*arguments: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, [str(one) for one in arguments])
    return answer.exit_code, answer.output + str(answer.exception or "")


def test_ours_computes_what_was_recorded() -> None:
    code, said = run("import", "official-expert", WEIGHTS, "--config", SIZES, "--check", RECORDED)
    assert code == 0, said
    assert all(name in said for name in OUTPUTS)
    differences = compare(read_published(WEIGHTS, SIZES).expert, RECORDED)
    assert [one.name for one in differences] == list(OUTPUTS)
    assert max(one.largest for one in differences) <= 1e-5


@pytest.mark.parametrize(
    "layer",
    ["transformer_blocks.0.attn.to_k.weight", "transformer_blocks.1.norm1_obs.linear.bias", "action_proj_in.dec_pos"],
)
def test_a_perturbed_copy_is_told_apart(weights: dict[str, torch.Tensor], layer: str, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    perturbed = {**weights, layer: weights[layer] + 0.1 * torch.randn(weights[layer].shape, generator=draw)}
    save_file(perturbed, tmp_path / "weights.safetensors")
    out = tmp_path / "expert"
    code, said = run(
        "import",
        "official-expert",
        tmp_path / "weights.safetensors",
        "--config",
        SIZES,
        "--check",
        RECORDED,
        "--out",
        out,
    )
    assert code != 0 and "apart" in said
    assert not out.exists(), "what does not hold is not imported"


def test_the_published_file_comes_back_bit_for_bit(tmp_path: Path) -> None:
    code, said = run("import", "official-expert", WEIGHTS, "--config", SIZES, "--out", tmp_path / "expert")
    assert code == 0, said
    assert ActionExpert.load(tmp_path / "expert").config.horizon == 30
    code, said = run("policy", "save-official", tmp_path / "expert", tmp_path / "again.safetensors")
    assert code == 0, said
    assert (tmp_path / "again.safetensors").read_bytes() == WEIGHTS.read_bytes()


def test_half_precision_comes_back_as_half_precision(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    half = {name: value if name == POSITIONS else value.bfloat16() for name, value in weights.items()}
    save_file(half, tmp_path / "half.safetensors")
    (tmp_path / "expert").mkdir()
    save_imported(tmp_path / "expert", read_published(tmp_path / "half.safetensors", SIZES))
    save_published(tmp_path / "expert", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "half.safetensors").read_bytes()


def test_an_expert_of_our_own_has_the_published_layout(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    config = read_sizes(SIZES).ours()
    expert = ActionExpert(config)
    expert.save(tmp_path)
    save_published(tmp_path, tmp_path / "published.safetensors")
    written = load_file(tmp_path / "published.safetensors")
    assert {name: value.shape for name, value in written.items()} == {n: v.shape for n, v in weights.items()}
    again = from_published(written, config).expert
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in expert.state_dict().items())


def test_computed_constants_are_the_published_ones(weights: dict[str, torch.Tensor]) -> None:
    computed = computed_constants(ActionExpert(read_sizes(SIZES).ours()))
    torch.testing.assert_close(computed[FREQUENCIES], weights[FREQUENCIES], atol=1e-6, rtol=0)
    torch.testing.assert_close(computed[POSITIONS], weights[POSITIONS], atol=3e-4, rtol=0)


def test_the_published_number_of_parameters() -> None:
    assert published_parameters(System1Config(schema_version=1, horizon=30, context_size=2048)) == 497_719_256


def test_every_name_and_shape_that_does_not_fit_is_listed(weights: dict[str, torch.Tensor]) -> None:
    broken = {name: value for name, value in weights.items() if name != "action_proj_in.dec_pos"}
    broken["lm_head.weight"] = torch.zeros(1)
    broken["obs_proj.views_proj.bias"] = torch.zeros(5)
    with pytest.raises(Psi0Error) as error:
        from_published(broken, read_sizes(SIZES).ours(), "weights.safetensors")
    assert all(word in str(error.value) for word in ("dec_pos is missing", "lm_head.weight is unknown", "(5,)"))


@pytest.mark.parametrize(
    ("content", "word"),
    [({"config": {"odim": 36}}, "action_dim"), ({"action_dim": -1}, "action_dim"), ([], "sizes|dict")],
)
def test_a_configuration_without_sizes_is_refused(content: object, word: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(Psi0Error, match=word):
        read_sizes(tmp_path / "config.json")


def test_a_recording_of_another_network_is_refused(tmp_path: Path) -> None:
    recorded = load_file(RECORDED)
    expert = read_published(WEIGHTS, SIZES).expert
    save_file({**recorded, "vlm_features": torch.zeros(2, 20, 65)}, tmp_path / "io.safetensors")
    with pytest.raises(Psi0Error, match="does not fit"):
        compare(expert, tmp_path / "io.safetensors")
    del recorded["state"]
    save_file(recorded, tmp_path / "io.safetensors")
    with pytest.raises(Psi0Error, match="state"):
        compare(expert, tmp_path / "io.safetensors")
    (tmp_path / "io.safetensors").write_bytes(b"no")
    with pytest.raises(Psi0Error, match="safetensors"):
        compare(expert, tmp_path / "io.safetensors")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, said = run("import", "official-expert", WEIGHTS, "--config", SIZES, "--out", tmp_path)
    assert code != 0 and "stays as it is" in said
    assert (tmp_path / "notes.txt").read_text() == "mine"
