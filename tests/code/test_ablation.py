"""The ladder: arms are valid changes, what they share is built once, what is missing is said."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from judged_workspace import make_evaluation
from typer.testing import CliRunner

from psi0.ablation.ladder import ARMS, REFERENCE, arm_params, find_arm
from psi0.ablation.result import ArmResult, made_of, result_file, write_table
from psi0.ablation.run import run_ladder
from psi0.ablation.workspace import build, committed, prepare_workspace
from psi0.cli import app
from psi0.errors import Psi0Error
from psi0.evaluate.evaluation import summarize
from psi0.evaluate.plan import register
from psi0.evaluate.schemas import Evaluation, Verdict, write_record
from psi0.params import Params, load_params
from psi0.profiles import load_profile
from psi0.settings import settings

TASK = "pick_can"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True)


@pytest.fixture
def small_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout whose DAG has a stage that all arms share and one that follows the change."""
    root = tmp_path / "checkout"
    root.mkdir()
    monkeypatch.chdir(root)
    settings.cache_clear()
    log = tmp_path / "log"
    stages = {
        "common": {"cmd": f"echo once >> {log} && echo 1 > common", "params": ["egodex"], "outs": ["common"]},
        "export": {"cmd": "cp common graphs", "deps": ["common"], "params": ["finetune"], "outs": ["graphs"]},
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / ".gitignore").write_text(".psi0\n/common\n/graphs\n")
    git(root, "init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "one")
    yield root
    settings.cache_clear()


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_every_arm_is_a_valid_change_at_both_scales(arm: str) -> None:
    made = {other.name: made_of(arm_params(Params(), other, TASK, None)) for other in ARMS}
    assert made[arm] not in [value for name, value in made.items() if name != arm]
    assert arm_params(load_profile("paper"), find_arm(arm), TASK, None).profile == "paper"


def test_the_budget_is_the_same_for_all_arms_but_those_on_time() -> None:
    budgets = {arm.name: arm_params(Params(), arm, TASK, 90).finetune.steps for arm in ARMS}
    assert {name: steps for name, steps in budgets.items() if steps != 90} == {
        **{"third": 30, "two_thirds": 60},
        **{"four_thirds": 120, "eight_thirds": 240},
    }
    assert arm_params(Params(), find_arm(REFERENCE), TASK, None) == Params()


def test_the_stage_that_stands_for_two_takes_the_steps_of_both() -> None:
    own = arm_params(Params(), find_arm("cotrained"), TASK, None)
    assert own.posttrain.cotrain and own.pretrain.steps == 0
    assert own.posttrain.steps == Params().pretrain.steps + Params().posttrain.steps
    assert [arm.name for arm in ARMS if arm.merged] == ["cotrained"]


def test_guidance_is_the_same_training(in_repository: None) -> None:
    recipe, guided = (arm_params(Params(), find_arm(name), TASK, None) for name in (REFERENCE, "guided"))
    changed = guided.system1.model_copy(update={"guidance": recipe.system1.guidance})
    assert guided.model_copy(update={"system1": changed}) == recipe
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    reads = [name for name, stage in stages.items() if {"system1", "system1.guidance"} & set(stage.get("params", []))]
    assert reads == ["finetune"], "stages before it are shared"


def test_what_arms_change_is_listed() -> None:
    said = CliRunner().invoke(app, ["ablate", "arms"]).output
    assert all(arm.says in said for arm in ARMS)
    assert "posttrain.cotrain=True posttrain.steps=pretrain.steps+posttrain.steps" in said
    assert "system1.attention=cross" in said and "finetune.steps times 0.33" in said


def test_an_unknown_arm_names_those_there_are() -> None:
    with pytest.raises(Psi0Error, match="arm 'nine' does not exist; arms: none, egodex"):
        find_arm("nine")


def test_what_arms_share_is_built_once(small_checkout: Path) -> None:
    heard: list[str] = []
    for name in ("recipe", "delta", "recipe"):
        params = arm_params(Params(), find_arm(name), TASK, 70 if name == "recipe" else 80)
        folder = prepare_workspace(name, params, committed(Path("results")))
        assert load_params(folder / "params.yaml") == params
        build(folder, "export", heard.append)
        assert (folder / "graphs").read_text() == "1\n"
    assert (small_checkout.parent / "log").read_text().split() == ["once"]
    assert any("cached" in line for line in heard)


def test_a_stage_that_fails_is_named_with_its_last_lines(small_checkout: Path) -> None:
    stages = {"export": {"cmd": "echo the disk is full && exit 3"}}
    (small_checkout / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    git(small_checkout, "commit", "--quiet", "--all", "-m", "two")
    with pytest.raises(Psi0Error, match=r"(?s)export failed in .*the disk is full.*type the command again"):
        build(prepare_workspace("recipe", Params(), committed(Path("results"))), "export", lambda line: None)


def test_changes_that_are_not_committed_are_refused(small_checkout: Path) -> None:
    (small_checkout / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(Psi0Error, match="has changes; commit or stash"):
        committed(Path("results"))


def test_results_that_lie_in_the_checkout_are_no_change_to_it(small_checkout: Path) -> None:
    page = small_checkout / "results" / "page.md"
    page.parent.mkdir()
    page.write_text("one\n")
    git(small_checkout, "add", "--all")
    git(small_checkout, "commit", "--quiet", "-m", "two")
    page.write_text("two\n")
    assert len(committed(Path("results"))) == 40
    with pytest.raises(Psi0Error, match="has changes"):
        committed(Path("elsewhere"))


def test_a_folder_without_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Psi0Error, match="none of Git's"):
        committed(Path("results"))


def played(successes: int, plan: str) -> Evaluation:
    """Ten episodes, of which the first succeeded."""
    whole = make_evaluation("policy", [True] * 10, plan, "1" * 64)
    failed = {"success": False, "tag": "dropped"}
    rows = [row if number < successes else row.model_copy(update=failed) for number, row in enumerate(whole.rows)]
    return whole.model_copy(update={"rows": rows, "summary": summarize(rows, descriptive=False)})


def leave(results: Path, arm: str, successes: int, params: Params, verdict: Verdict | None = None) -> None:
    plan = register(params, TASK).sha256
    own = arm_params(params, find_arm(arm), TASK, None)
    found = ArmResult(
        arm=arm,
        made_of=made_of(own),
        git_commit="0" * 40,
        training={},
        delayed=played(successes, plan),
        at_once=played(10, plan),
        verdict=verdict,
    )
    write_record(result_file(results, TASK, arm), found)


def test_the_table_compares_with_the_recipe_and_shows_missing_arms(here: Path) -> None:
    params = Params()
    leave(here, REFERENCE, 9, params)
    leave(here, "none", 2, params)
    table = write_table(params, TASK, None, here)
    assert (
        "| no pre-training, no post-training | 2 of 10 | 0.06 to 0.51 | 0, 7 (p 0.016) | dropped 8 | 10 of 10 |"
        in table
    )
    assert "| + EgoDex | missing |" in table and "not run yet" in table
    assert (here / f"ladder_{TASK}.md").read_text() == table


def test_training_seeds_are_summed_up(here: Path) -> None:
    leave(here, REFERENCE, 9, Params(), "pass")
    assert "training seeds of the recipe" not in write_table(Params(), TASK, None, here)
    leave(here, "seed_8", 6, Params(), "refuse")
    leave(here, "seed_9", 10, Params(), "pass")
    said = "Over 3 training seeds of the recipe (5 are planned), delayed: 0.833 on average, 0.60 to 1.00."
    assert f"{said} The registered gate passes 2 of 3." in write_table(Params(), TASK, None, here)
    assert arm_params(Params(), find_arm("seed_9"), TASK, None).pretrain.seed == 9


def test_results_of_another_budget_or_plan_are_missing(here: Path) -> None:
    leave(here, REFERENCE, 9, Params())
    assert "recipe.json was made with other parameters or code" in write_table(Params(), TASK, 70, here)
    harder = Params().model_copy(update={"evaluation": Params().evaluation.model_copy(update={"level": "L2"})})
    assert "recipe.json was made under another plan" in write_table(harder, TASK, None, here)
    faster = Params().model_copy(update={"evaluation": Params().evaluation.model_copy(update={"workers": 7})})
    assert "recipe.json" not in write_table(faster, TASK, None, here)


def test_a_table_needs_a_task_and_the_robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Psi0Error, match="fold_laundry"):
        write_table(Params(), "fold_laundry", None, tmp_path)
    with pytest.raises(Psi0Error, match="dvc repro robot"):
        write_table(Params(), TASK, None, tmp_path)


def test_an_arm_that_is_there_is_not_run_again(small_checkout: Path, robot_folder: Path) -> None:
    (small_checkout / "data").mkdir()
    (small_checkout / "data" / "robot").symlink_to(robot_folder)
    heard: list[str] = []
    leave(Path("results"), REFERENCE, 9, Params())
    run_ladder(Params(), TASK, [find_arm(REFERENCE)], 10, Path("results"), hear=heard.append)
    assert heard == ["recipe: done before"]
