"""One rule of promotion: what may become champion, what may not, and what a person can do against it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from psi0.deploy.publish import read_pointer
from psi0.deploy.pull import pull
from psi0.errors import Psi0Error
from psi0.registry.champion import read_state
from psi0.registry.comparison import Comparison
from psi0.registry.promotion import NotPromotableError, promote, roll_back
from psi0.registry.promotion_files import keep, read_comparison, read_promotion
from psi0.registry.reconcile import reconcile
from psi0.registry.rule import examine
from psi0.registry.versions import Version, aliases, find_version
from tests.code.judged_versions import BAD, GOOD, TASK, played_as, register_version


def never(*arguments: object) -> Comparison:
    raise AssertionError("no comparison is due")


def artifacts(client: MlflowClient, version: Version) -> set[str]:
    return {item.path for item in client.list_artifacts(version.run_id, "promotion")}


def report(client: MlflowClient, version: Version, folder: Path) -> str:
    """The final report of a version."""
    return Path(client.download_artifacts(version.run_id, "promotion/report.html", str(folder))).read_text()


def test_the_first_champion_needs_the_floor_alone(registry: MlflowClient, tmp_path: Path) -> None:
    version = register_version(registry, tmp_path)
    steps: list[str] = []
    result = promote(registry, TASK, "candidate", by="ada", because="first", compare=never, step=steps.append)
    assert (result.champion, result.previous, result.moved, result.overridden) == ("1", None, True, False)
    assert steps == [
        "bundle uploaded and verified",
        "begun",
        "previous champion kept",
        "alias moved",
        "pointer moved",
        "recorded",
    ]
    state = read_state(registry, TASK)
    assert state.settled and (state.alias, state.recorded, state.deployed) == ("1", "1", "1")
    assert aliases(registry, TASK) == {"candidate": "1", "champion": "1"}
    record = read_promotion(registry, version)
    assert record is not None and (record.how, record.by, record.because) == ("evidence", "ada", "first")
    tags = find_version(registry, TASK, "1").tags
    assert (tags["promotion"], tags["promoted_by"], tags["promoted_because"]) == ("promoted", "ada", "first")
    assert {"promotion/promotion.json", "promotion/report.html"} <= artifacts(registry, version)
    page = report(registry, version, tmp_path)
    assert "candidate 1 under this plan" in page and "psi0-pick_can version 1" in page
    assert f"/runs/{version.run_id}" in page and "is champion" not in page
    again = promote(registry, TASK, "1", compare=never)
    assert (again.champion, again.moved) == ("1", False)


def test_a_champion_is_beaten_by_what_is_shown_not_to_be_worse(registry: MlflowClient, tmp_path: Path) -> None:
    promote(registry, TASK, register_version(registry, tmp_path).number)
    worse = register_version(registry, tmp_path)
    with pytest.raises(NotPromotableError, match=r"is not shown to be not inferior by 10%.*champion alone on 12"):
        promote(registry, TASK, worse.number, compare=played_as(12))
    assert read_state(registry, TASK).champion == "1"
    comparison = read_comparison(registry, worse)
    assert comparison is not None and not comparison.sufficient and comparison.champion.version == "1"
    with pytest.raises(NotPromotableError, match="not inferior"):
        promote(registry, TASK, worse.number, compare=never)
    equal = register_version(registry, tmp_path)
    result = promote(registry, TASK, equal.number, compare=played_as(0))
    assert (result.champion, result.previous) == ("3", "1")
    page = report(registry, equal, tmp_path)
    assert "version 1 is champion: on 60 fresh seeds" in page and "champion: 100%" in page
    assert aliases(registry, TASK) == {"candidate": "3", "champion": "3", "previous": "1"}
    pointer = read_pointer(TASK)
    assert pointer is not None and (pointer.version, pointer.address) == ("3", result.address)


def test_an_edited_comparison_is_made_again(registry: MlflowClient, tmp_path: Path) -> None:
    promote(registry, TASK, register_version(registry, tmp_path).number)
    version, champion = register_version(registry, tmp_path), find_version(registry, TASK, "1")
    bad = played_as(12)(registry, version, champion)
    flattering = bad.model_copy(update={"p_value": 0.001, "adjusted_p_value": 0.001, "sufficient": True})
    pairs = [
        pair.model_copy(update={"seed": pair.seed + 1}) for pair in played_as(0)(registry, version, champion).pairs
    ]
    chosen = played_as(0)(registry, version, champion).model_copy(update={"pairs": pairs})
    for edited, fault in ((flattering, "it was edited"), (chosen, "seeds that the plan did not draw")):
        keep(registry, version, edited)
        standing = examine(registry, version, champion)
        assert standing.awaits_comparison and not standing.sufficient and fault in standing.sentence
    with pytest.raises(NotPromotableError, match="champion alone on 12"):
        promote(registry, TASK, version.number, compare=played_as(12))


def edit(path: str, **changes: object) -> Callable[[Path], None]:
    """A change of a JSON file of the workspace before it is registered."""

    def change(workspace: Path) -> None:
        file = workspace / path.format(task=TASK)
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def lower_the_bar(workspace: Path) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["gate"]["thresholds"][TASK] = {"p0": 0.1, "p1": 0.5}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))


GATE, ARM = "gate/{task}/gate.json", "evaluation/{task}/policy.json"


@pytest.mark.parametrize(
    ("outcomes", "change", "reason"),
    [
        (BAD, None, "the verdict is refuse: the floor test says no: 0 of 2"),
        (BAD, edit(GATE, verdict="pass", reasons=[]), "gate.json that says pass, its evaluation files say refuse"),
        (GOOD, edit(ARM, plan_sha256="b" * 64), "policy.json was made under another plan"),
        (GOOD, edit(ARM, privileged=True), "reads the simulator's state"),
        (
            GOOD,
            edit(GATE, plan_sha256="b" * 64),
            "gate.json that differs from what its evaluation files give",
        ),
        (GOOD, lower_the_bar, "has a plan with gate.thresholds"),
        (GOOD, lambda workspace: (workspace / f"evaluation/{TASK}/blind.json").unlink(), "blind.json is missing"),
    ],
)
def test_insufficient_evidence_is_refused_with_its_reason(
    registry: MlflowClient,
    tmp_path: Path,
    outcomes: dict[str, list[bool]],
    change: Callable[[Path], None] | None,
    reason: str,
) -> None:
    version = register_version(registry, tmp_path, outcomes, change=change)
    with pytest.raises(NotPromotableError) as error:
        promote(registry, TASK, version.number, compare=never)
    assert reason in str(error.value)
    assert read_state(registry, TASK).champion is None and "champion" not in aliases(registry, TASK)


def test_what_could_not_be_deployed_cannot_be_overridden(registry: MlflowClient, tmp_path: Path) -> None:
    whole = register_version(registry, tmp_path)
    naked = registry.create_model_version(whole.name, source="s3://elsewhere/policy", tags={"verdict": "pass"})
    with pytest.raises(NotPromotableError, match="it has no run with evidence"):
        promote(registry, TASK, str(naked.version), because="I insist", override=True)
    with pytest.raises(Psi0Error, match="is a verdict on 'push_cart', not on 'pick_can'"):
        register_version(registry, tmp_path, change=edit(GATE, task="push_cart"))
    assert read_state(registry, TASK).champion is None


def test_a_tag_edited_by_hand_does_not_help(registry: MlflowClient, tmp_path: Path) -> None:
    version = register_version(registry, tmp_path, BAD)
    registry.set_model_version_tag(version.name, version.number, "verdict", "pass")
    with pytest.raises(NotPromotableError, match="its tag verdict says 'pass', its files say 'refuse'"):
        promote(registry, TASK, version.number)


def test_an_override_needs_a_reason_and_stays_visible(registry: MlflowClient, tmp_path: Path) -> None:
    promote(registry, TASK, register_version(registry, tmp_path).number)
    version = register_version(registry, tmp_path, BAD)
    with pytest.raises(Psi0Error, match="--because"):
        promote(registry, TASK, version.number, override=True)
    result = promote(registry, TASK, version.number, by="ada", because="a demo for the mayor", override=True)
    assert "Promoted against the rule: ada: a demo for the mayor" in report(registry, version, tmp_path)
    assert result.overridden and read_state(registry, TASK).settled
    record = read_promotion(registry, version)
    assert record is not None and (record.how, record.by, record.because) == ("override", "ada", "a demo for the mayor")
    assert "the floor test says no" in record.reasons[0]
    tags = find_version(registry, TASK, "champion").tags
    assert tags["promotion"] == "overridden" and "the floor test says no" in tags["promotion_reason"]
    described = registry.get_model_version(version.name, version.number).description
    assert described.startswith("**OVERRIDE** by ada: a demo for the mayor.")
    manifest = json.loads((pull(result.address) / "manifest.json").read_text())
    assert manifest["evidence"]["override"] == "ada: a demo for the mayor"
    assert manifest["evidence"]["verdict"] == "refuse"
    roll_back(registry, TASK)
    with pytest.raises(NotPromotableError, match="the floor test says no"):
        roll_back(registry, TASK)


def test_rolling_back_is_one_command_and_needs_no_new_evidence(registry: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(Psi0Error, match="no champion to go back to"):
        roll_back(registry, TASK)
    promote(registry, TASK, register_version(registry, tmp_path).number)
    promote(registry, TASK, register_version(registry, tmp_path).number, compare=played_as(0))
    back = roll_back(registry, TASK, because="it drops cans")
    assert (back.champion, back.previous) == ("1", "2")
    assert aliases(registry, TASK) == {"candidate": "2", "champion": "1", "previous": "2"}
    assert find_version(registry, TASK, "1").tags["promoted_because"] == "it drops cans"
    assert promote(registry, TASK, "previous", compare=never).champion == "2"
    assert read_state(registry, TASK).settled


def test_versions_of_no_task_are_named(registry: MlflowClient, tmp_path: Path) -> None:
    register_version(registry, tmp_path)
    with pytest.raises(Psi0Error, match=r"there is: 1 \(pass\)"):
        promote(registry, TASK, "7")


def test_without_a_champion_a_refused_alias_goes_away(registry: MlflowClient, tmp_path: Path) -> None:
    version = register_version(registry, tmp_path, BAD)
    registry.set_registered_model_alias(version.name, "champion", version.number)
    assert "the alias was removed" in reconcile(registry, TASK, "watch", publish=None).message
    assert aliases(registry, TASK) == {}
