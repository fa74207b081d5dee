"""params.yaml: typed, closed, rendered from the schema, and available as profiles."""

import math
import re
from pathlib import Path

import pytest
import yaml

from psi0.errors import Psi0Error
from psi0.params import Params, check_task, load_params, parse_params
from psi0.profiles import add_tasks, load_profile, profile_names, render, use_profile

pytestmark = pytest.mark.usefixtures("in_repository")


def test_the_committed_parameters_are_the_tiny_profile() -> None:
    assert Path("params.yaml").read_text() == render(Params()), "run `psi0 params use tiny --force`"


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_survives_being_rendered_and_read(name: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(render(load_profile(name)))
    assert load_params(file) == load_profile(name)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"finetune": {"stps": 3}}, ["finetune.stps", "did you mean 'steps'"]),
        ({"fintune": {"steps": 3}}, ["fintune", "did you mean 'finetune'"]),
        ({"finetune": {"steps": "many"}}, ["finetune.steps", "integer", "'many'"]),
        ({"finetune": {"steps": 0}}, ["finetune.steps", "greater than 0"]),
        ({"evaluation": {"inference_delay_ms": -160}}, ["evaluation.inference_delay_ms"]),
        ({"control": {"chunk": 8, "execute": 9}}, ["control.execute must not exceed control.chunk"]),
        ({"finetune": {"steps": True}}, ["finetune.steps", "integer", "True"]),
        ({"finetune": {"steps": "400"}}, ["finetune.steps", "'400'", "write 400"]),
        ({"finetune": {"steps": 400.0}}, ["finetune.steps", "integer", "write 400"]),
        ({"finetune": {"learning_rate": "1e-4"}}, ["finetune.learning_rate", "'1e-4'", "write 0.0001"]),
        ({"finetune": {"learning_rate": math.inf}}, ["finetune.learning_rate", "finite"]),
        ({"finetune": {"state_noise": math.nan}}, ["finetune.state_noise", "finite"]),
        ({"system2": {"download": "yes"}}, ["system2.download", "boolean"]),
        ({"tasks": []}, ["tasks", "at least 1"]),
        ({"tasks": ["pick_can", "pick_can"]}, ["tasks", "'pick_can' stands there more than once"]),
        ({"tasks": ["pick_cann"]}, ["tasks: task 'pick_cann' does not exist; did you mean 'pick_can'"]),
        ({"gate": {"thresholds": {"pick": {"p0": 0.7, "p1": 0.9}}}}, ["gate.thresholds: task 'pick' does not exist"]),
        ({"gate": {"alpha": 0}}, ["gate.alpha", "greater than 0"]),
        ({"demonstrations": {"seed": 700000}}, ["demonstrations: seed 700000", "below 500000", "lower"]),
        ({"egodex": {"seed": 499000, "episodes": 251}}, ["egodex: seed 499000", "seed 500003", "lower"]),
        ({"demonstrations": {"recorder_hz": 30}}, ["demonstrations.recorder_hz is 30 but control.policy_hz is 10"]),
        ({"pretrain": {"batch": 47}}, ["pretrain: batch 47 is not a multiple of ranks 2 times accumulation 1"]),
        ({"posttrain": {"batch": 48, "accumulation": 5}}, ["posttrain: batch 48", "accumulation 5", "change"]),
        ({"posttrain": {"steps": 40}}, ["posttrain: warmup_steps 50 exceeds steps 40"]),
        ({"pretrain": {"humanoid_everyday_steps": 401}}, ["pretrain: humanoid_everyday_steps 401 exceeds steps 400"]),
        ({"finetune": {"max_delay": 17}}, ["finetune.max_delay 17 exceeds control.chunk 16"]),
        ({"tokenizer": {"vocabulary": 200}}, ["tokenizer: vocabulary 200", "201 quantisation levels of scale 100"]),
        ({"system2": {"hidden_size": 60}}, ["system2: hidden_size 60, heads 4", "multiple of 4"]),
        ({"system2": {"patch_size": 24}}, ["system2: convolutional_stem needs a patch_size of 8 or 16, not 24"]),
        ({"system1": {"attention": "plain"}}, ["system1.attention", "'joint' or 'cross'"]),
        ({"posttrain": {"next_token_loss": -1}}, ["posttrain.next_token_loss", "greater than or equal to 0"]),
        (
            {"posttrain": {"cotrain": True, "cache_features": True, "image_shift": 0}},
            ["posttrain: cache_features needs a frozen System-2; set cotrain or cache_features to false"],
        ),
        ({"system1": {"heads": 3}}, ["system1: hidden_size 128 must be even and a multiple of heads 3"]),
        (
            {"gate": {"thresholds": {"pick_can": {"p0": 0.9, "p1": 0.8}}}},
            ["gate.thresholds.pick_can", "p0 < p1"],
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_remedy(content: dict[str, object], names: list[str]) -> None:
    with pytest.raises(Psi0Error) as caught:
        parse_params(content, "params.yaml")
    assert all(name in str(caught.value) for name in ["params.yaml", *names])


@pytest.mark.parametrize(
    "content",
    [
        {"finetune": {"learning_rate": 1, "state_noise": 0}},
        {"demonstrations": {"seed": 499680}},
        {"egodex": {"source": "data/downloads/egodex", "episodes": 338000}},
        {"demonstrations": {"source": "s3://robot/teleoperation", "recorder_hz": 30}},
        {"system2": {"source": "Qwen/Qwen3-VL-2B-Instruct", "heads": 3}},
        {"finetune": {"max_delay": 16, "ranks": 4, "accumulation": 4}},
        {"finetune": {"compile": False, "lora_rank": 8, "ema": 0.999}},
        {"posttrain": {"compile": "auto", "cache_features": True, "image_shift": 0}},
        {"posttrain": {"cotrain": True, "next_token_loss": 0, "ema": 0.9}, "system1": {"attention": "cross"}},
    ],
)
def test_what_fits_is_accepted(content: dict[str, object]) -> None:
    parse_params(content, "params.yaml")


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(Psi0Error, match=r"(?s)pretrain\.batch.*posttrain\.batch"):
        parse_params({"pretrain": {"batch": -1}, "posttrain": {"batch": -1}}, "params.yaml")


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(Psi0Error, match="did you mean 'pick_can'"):
        check_task("pick_cann")


@pytest.mark.parametrize("text", ["tasks: [pick_can", "- a list", "just text", ""])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(Psi0Error, match=r"params\.yaml"):
        load_params(file)


def test_a_profile_does_not_overwrite_values_that_no_profile_has(tmp_path: Path) -> None:
    target = tmp_path / "params.yaml"
    target.write_text(render(Params()).replace("profile: tiny", "profile: mine"))
    with pytest.raises(Psi0Error, match="--force"):
        use_profile("tiny", target=target)
    assert "profile: mine" in target.read_text()
    use_profile("tiny", force=True, target=target)
    assert load_params(target) == Params()


def test_the_paper_profile_turns_off_what_tiny_scale_adds() -> None:
    paper = load_profile("paper")
    assert not paper.system2.convolutional_stem
    assert not paper.system2.key_points
    assert not paper.finetune.tune_system2
    assert paper.finetune.key_point_loss == 0


def test_the_paper_profile_trains_as_published() -> None:
    paper = load_profile("paper")
    assert (paper.posttrain.action, paper.posttrain.chunk, paper.control.chunk) == ("delta", 16, 30)
    assert {block.clip_norm for block in (paper.pretrain, paper.posttrain, paper.finetune)} == {1.0}
    assert [block.beta1 for block in (paper.pretrain, paper.posttrain, paper.finetune)] == [0.9, 0.9, 0.95]


LEARNING = ("tokenizer", "system2", "system1", "pretrain", "posttrain", "finetune")


def test_every_value_of_the_paper_profile_names_its_source() -> None:
    block = ""
    for line in Path("params/paper.yaml").read_text().splitlines():
        value, _, source = line.partition("#")
        block = value.split(":")[0] if re.match(r"\w", value) else block
        if re.search(r":.*\d", value) or (block in LEARNING and re.match(r"  \w+:", value)):
            assert re.search(r"\[(P|R|C|Q|arXiv)|ours|tiny scale only", source), (
                f"params/paper.yaml: no source for {line}"
            )


@pytest.mark.parametrize("block", LEARNING)
def test_no_value_of_learning_at_paper_scale_is_left_to_the_defaults_of_tiny(block: str) -> None:
    stated = yaml.safe_load(Path("params/paper.yaml").read_text())[block]
    assert set(stated) == set(type(getattr(Params(), block)).model_fields)


def test_tasks_are_added_to_their_line_and_nothing_else_changes(tmp_path: Path) -> None:
    target = tmp_path / "params.yaml"
    use_profile("tiny", target=target)
    before = target.read_text()
    assert add_tasks(["pick_can", "push_cart"], target) == ["push_cart"]
    assert target.read_text() == before.replace("tasks: [pick_can]", "tasks: [pick_can, push_cart]")
    assert add_tasks(["push_cart"], target) == []
    target.write_text("tasks:\n- pick_can\n")
    with pytest.raises(Psi0Error, match=r"push_cart .*by hand"):
        add_tasks(["push_cart"], target)
    assert target.read_text() == "tasks:\n- pick_can\n"
