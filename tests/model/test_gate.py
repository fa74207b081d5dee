"""The verdict: pass, refuse or void, each for the right reason, and the report that tells it."""

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from verdicts import GRAPHS, PARAMS, POLICY, TASK, arm, good, verdict, with_arm

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.evaluate import plan as planning
from psi0.evaluate.evidence import Evidence, gather
from psi0.evaluate.gate import judge_evidence, numbered
from psi0.evaluate.schemas import Evaluation, GateFile, Row, read_record, write_record
from psi0.evaluate.stage import judge
from psi0.evaluate.verbs import check_verdict
from psi0.files import sha256_folder, write_json
from psi0.model.manifest import write_manifest
from psi0.params import parse_params


def test_good_evidence_passes() -> None:
    result = verdict(good())
    assert (result.verdict, result.reasons) == ("pass", [])
    assert result.floor is not None and result.floor.decision == "accept" and result.floor.interval.descriptive
    assert result.controls["swapped_image"].upper_bound == pytest.approx(0.2269, abs=1e-4)
    assert "20 of 21" in result.sentence and result.attempt is None


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (with_arm(arm("policy", [True, True])), "too few episodes"),
        (with_arm(arm("policy", [False, False])), "the floor test says no: 0 of 2"),
        (with_arm(arm("policy", ([True] * 6 + [False]) * 14 + [True] * 2)), "no decision within 100 episodes"),
        (with_arm(arm("blind", [True] * 2)), "control blind, which must fail, may succeed too often"),
        (with_arm(arm("script", [False] * 12 + [True] * 3)), "control script, which must fail, may succeed too often"),
        (with_arm(arm("blind", [False] * 15)), "control blind is unfinished: 0 of 15 episodes"),
        (with_arm(arm("blind", [])), "control blind is unfinished: 0 of 0 episodes"),
        (replace(good(), max_abs_error=2e-4), "differ from torch by 0.0002"),
        (with_arm(arm("policy", [True] * 15, privileged=True)), "reads the simulator's state"),
    ],
)
def test_insufficient_evidence_is_refused(evidence: Evidence, reason: str) -> None:
    result = verdict(evidence)
    assert result.verdict == "refuse"
    assert len(result.reasons) == 1 and reason in result.reasons[0]


def test_every_reason_for_a_refusal_is_named() -> None:
    evidence = replace(with_arm(arm("policy", [False, False])), max_abs_error=1.0)
    assert len(verdict(evidence).reasons) == 2


def shuffled(rows: list[Row]) -> list[Row]:
    return [rows[1], rows[0], *rows[2:]]


ROWS = arm("policy", [True] * 15).rows


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"plan_sha256": "00" * 32}, "under another plan"),
        ({"policy_sha256": "00" * 32}, "judges another policy"),
        ({"graphs_sha256": "00" * 32}, "judges other graphs"),
        ({"task": "push_cart"}, "of task 'push_cart'"),
        ({"delay_steps": 0}, "inference delay of 0"),
        ({"seeds": "range"}, "given by a person"),
        ({"rows": [*ROWS[:14], ROWS[0]]}, "more than once"),
        ({"rows": [*ROWS[:14], ROWS[14].model_copy(update={"seed": 7})]}, "training range: 7"),
        ({"rows": [*ROWS[:14], ROWS[14].model_copy(update={"seed": 700_001})]}, "did not draw: 700001"),
        ({"rows": [*ROWS[:14], ROWS[14].model_copy(update={"seed": 600_000})]}, "did not draw: 600000"),
        ({"rows": shuffled(ROWS)}, "not in the order of the plan"),
        ({"rows": ROWS[1:]}, f"seeds of the plan are missing: {ROWS[0].seed}"),
        ({"rows": [*ROWS[:5], *ROWS[6:]]}, f"seeds of the plan are missing: {ROWS[5].seed}"),
        ({"rows": ROWS[:10]}, "does not add up"),
        ({"invalid_seeds": [ROWS[3].seed]}, f"both judged and left out, or left out twice: {ROWS[3].seed}"),
        ({"invalid_seeds": [7]}, "did not draw: 7"),
        ({"differing_seeds": [ROWS[0].seed]}, "did not repeat exactly"),
        ({"policy": "script"}, "was run with 'script'"),
    ],
)
def test_evidence_that_is_not_what_the_plan_asked_for_is_void(changes: dict[str, Any], reason: str) -> None:
    result = verdict(with_arm(arm("policy", [True] * 15, **changes)))
    assert result.verdict == "void"
    assert reason in " ".join(result.reasons), result.reasons


def test_a_success_turned_around_by_hand_is_noticed() -> None:
    rows = [*ROWS[:4], ROWS[4].model_copy(update={"success": False}), *ROWS[5:]]
    assert verdict(with_arm(arm("policy", [True] * 15, rows=rows))).verdict == "void"


def test_going_on_after_the_decision_is_void() -> None:
    result = verdict(with_arm(arm("policy", [True] * 25)))
    assert result.verdict == "void"
    assert "policy.json: holds 25 episodes, but its test decided after 15" in result.reasons[0]
    result = verdict(with_arm(arm("blind", [False] * 20)))
    assert result.verdict == "void" and "decided after 19" in result.reasons[0]


def test_left_out_scenes_are_accepted_in_small_numbers_only() -> None:
    plan = planning.register(PARAMS, TASK).sha256
    drawn = list(islice(planning.derived_seeds(plan, POLICY), 25))

    def leaving_out(count: int) -> Evaluation:
        base = arm("policy", [True] * 15)
        rows = [row.model_copy(update={"seed": s}) for row, s in zip(base.rows, drawn[count : count + 15], strict=True)]
        return base.model_copy(update={"rows": rows, "invalid_seeds": drawn[:count]})

    assert verdict(with_arm(leaving_out(2))).verdict == "pass"
    broken = verdict(with_arm(leaving_out(9)))
    assert broken.verdict == "void" and "9 of 24 scenes did not settle" in broken.reasons[0]


def test_too_few_planned_control_episodes_are_named() -> None:
    params = parse_params(
        {"evaluation": {"control_episodes": 3}, "gate": {"control_ceilings": {"blind": 0.25}}}, "test"
    )
    evidence = good(params=params)
    evidence = with_arm(arm("blind", [False] * 3, params=params), evidence)
    assert verdict(evidence, params).reasons == ["control blind: 3 episodes are too few to show a rate below 0.25"]


def test_the_exact_test_of_a_fixed_number_stands_in_for_the_sequential_one() -> None:
    params = parse_params({"gate": {"fixed_n": 40, "control_ceilings": {}}}, "test")
    for successes, word in ((35, "pass"), (34, "refuse")):
        outcomes = [True] * successes + [False] * (40 - successes)
        evidence = with_arm(arm("policy", outcomes, params=params), good(params=params))
        result = verdict(evidence, params)
        assert result.verdict == word and result.floor is not None
        assert result.floor.test == "fixed" and not result.floor.interval.descriptive
    early = verdict(with_arm(arm("policy", [True] * 36, params=params), good(params=params)), params)
    assert early.verdict == "refuse" and "too few episodes for a decision" in early.reasons[0]


def test_the_verdict_says_which_candidate_this_was() -> None:
    result = verdict(good())
    seventh = numbered(result, 7)
    assert seventh.sentence.startswith("pick_can, candidate 7 under this plan, passes: 20 of 21")
    assert seventh.attempt == 7
    assert numbered(seventh, 8).model_copy(update={"attempt": None, "sentence": result.sentence}) == result
    refused = verdict(with_arm(arm("policy", [False, False])))
    assert numbered(refused, 2).sentence.startswith("pick_can, candidate 2 under this plan, is refused: the floor")


def test_a_missing_arm_is_void() -> None:
    evidence = good()
    del evidence.evaluations["blind"]
    evidence.problems.append("evaluation/pick_can/blind.json is missing")
    assert verdict(evidence).verdict == "void"


def test_other_gate_parameters_are_another_plan() -> None:
    stricter = parse_params({"gate": {"alpha": 0.01}}, "test")
    assert verdict(good(), stricter).verdict == "void"
    assert planning.register(stricter, TASK).sha256 != planning.register(PARAMS, TASK).sha256


@pytest.mark.parametrize("gate", [{"alpha": 0}, {"alpha": 0.5}, {"beta": 0}, {"beta": 1}, {"compare_torch": 3}])
def test_error_rates_that_no_test_can_keep_are_refused(gate: dict[str, Any]) -> None:
    with pytest.raises(Psi0Error, match=rf"gate\.{next(iter(gate))}"):
        parse_params({"gate": gate}, "test")


def test_an_old_verdict_is_judged_under_its_own_plan() -> None:
    old = planning.register(PARAMS, TASK).model_copy(update={"world_sha256": "00" * 32})
    evidence = replace(good(), plan=old)
    assert verdict(evidence).verdict == "void"
    names = ("policy", "blind", "swapped_image", "script")
    foreign = judge_evidence(evidence, PARAMS, TASK, plan=old)
    assert foreign.verdict == "void" and len(foreign.reasons) == 2 * len(names), "its files belong to another plan"
    assert judge_evidence(good(), PARAMS, TASK, plan=good().plan).verdict == "pass"


def test_what_changes_no_result_changes_no_plan() -> None:
    faster = PARAMS.evaluation.model_copy(update={"workers": 5, "videos": 0})
    other = PARAMS.model_copy(update={"evaluation": faster})
    assert planning.register(other, TASK).sha256 == planning.register(PARAMS, TASK).sha256
    level = parse_params({"evaluation": {"level": "L1"}}, "test")
    assert planning.register(level, TASK).sha256 != planning.register(PARAMS, TASK).sha256


def test_another_robot_is_another_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "data/robot/limits.json", {"knee": 1.0})
    before = planning.register(PARAMS, TASK).sha256
    write_json(tmp_path / "data/robot/limits.json", {"knee": 1.1})
    assert planning.register(PARAMS, TASK).sha256 != before


def test_seeds_follow_from_plan_and_policy() -> None:
    plan = planning.register(PARAMS, TASK).sha256
    seeds = list(islice(planning.derived_seeds(plan, POLICY), 500))
    assert len(set(seeds)) == 500 and min(seeds) >= 700_000
    assert seeds == list(islice(planning.derived_seeds(plan, POLICY), 500))
    assert not set(seeds) & set(islice(planning.derived_seeds(plan, GRAPHS), 500))


@pytest.mark.parametrize(("milliseconds", "steps"), [(0, 0), (1, 1), (100, 1), (101, 2), (160, 2), (300, 3)])
def test_delay_is_counted_in_whole_control_steps(milliseconds: int, steps: int) -> None:
    params = parse_params({"evaluation": {"inference_delay_ms": milliseconds}}, "test")
    assert planning.delay_steps(params) == steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:10", "for training"),
        ("499990:500010", "for training"),
        ("499990:700010", "for training"),
        ("600000:700010", "start at 700000"),
        ("700010:700010", "empty"),
        ("700010:700000", "empty"),
        ("700000", "A:B"),
        ("-5:7", "A:B"),
        ("700000:99999999999", "end at"),
    ],
)
def test_seeds_that_are_not_for_evaluation_are_refused(text: str, message: str) -> None:
    with pytest.raises(Psi0Error, match=message):
        planning.seed_range(text)


def test_a_range_of_seeds_is_half_open() -> None:
    assert list(planning.seed_range("700000:700003")) == [700_000, 700_001, 700_002]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], GateFile]:
    """A folder with graphs and evaluations on disk; calling it runs the gate stage there and reads the verdict."""
    monkeypatch.chdir(tmp_path)
    graphs, folder = paths.graphs(TASK), paths.evaluation(TASK)
    write_json(graphs / "parity.json", {"schema_version": 1, "max_abs_error": {"s1_step": 2e-7, "actions": 3e-7}})
    write_json(graphs / "lineage.json", {"schema_version": 1, "git_commit": "1234567", "data": {"demonstrations": "x"}})
    write_manifest(graphs, policy_sha256=POLICY)
    evaluations = good(sha256_folder(graphs)).evaluations
    for name, evaluation in evaluations.items():
        write_record(folder / f"{name}.json", evaluation)
    write_record(folder / planning.PLAN_FILE, planning.register(PARAMS, TASK))
    (folder / "videos").mkdir()
    (folder / "videos" / f"policy_{evaluations['policy'].rows[0].seed}.mp4").write_bytes(b"film")

    def run() -> GateFile:
        judge(PARAMS, TASK)
        return read_record(GateFile, paths.gate(TASK) / "gate.json")

    return run


def test_the_stage_writes_the_same_bytes_twice_and_they_check(judged: Callable[[], GateFile]) -> None:
    assert judged().verdict == "pass"
    first = sha256_folder(paths.gate(TASK))
    judged()
    assert sha256_folder(paths.gate(TASK)) == first
    assert check_verdict(PARAMS, TASK).verdict == "pass"
    write_record(paths.gate(TASK) / "gate.json", numbered(check_verdict(PARAMS, TASK), 3))
    assert check_verdict(PARAMS, TASK).attempt == 3
    assert json.loads((paths.gate(TASK) / "metrics.json").read_text())["passed"] == 1


def test_a_verdict_edited_by_hand_is_noticed(judged: Callable[[], GateFile]) -> None:
    file = paths.evaluation(TASK) / "policy.json"
    write_record(file, arm("policy", [False, False], read_record(Evaluation, file).graphs_sha256))
    refused = judged()
    assert refused.verdict == "refuse"
    write_record(paths.gate(TASK) / "gate.json", refused.model_copy(update={"verdict": "pass", "reasons": []}))
    with pytest.raises(Psi0Error, match=r"says 'pass', its evidence says 'refuse'.*verdict, reasons"):
        check_verdict(PARAMS, TASK)


def test_the_command_exits_with_an_error_for_an_edited_verdict(judged: Callable[[], GateFile]) -> None:
    honest = judged()
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS.model_dump(mode="json")))
    write_record(paths.gate(TASK) / "gate.json", honest.model_copy(update={"sentence": "All is well."}))
    answer = subprocess.run(["psi0", "gate", "check", TASK], capture_output=True, text=True)
    assert answer.returncode == 1 and "different: sentence" in answer.stderr and "Traceback" not in answer.stderr


def test_a_changed_graph_is_void(judged: Callable[[], GateFile]) -> None:
    parity = paths.graphs(TASK) / "parity.json"
    parity.write_text(parity.read_text().replace("3e-07", "1e-09"))
    result = judged()
    assert result.verdict == "void" and "parity.json was changed" in result.reasons[0]


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 9}', '{"schema_version": 1, "task": 3}', "[]"])
def test_a_broken_evaluation_file_is_void_and_named(judged: Callable[[], GateFile], content: str) -> None:
    (paths.evaluation(TASK) / "blind.json").write_text(content)
    result = judged()
    assert result.verdict == "void" and "blind.json" in result.reasons[0]


def test_an_unknown_schema_version_names_the_remedy(tmp_path: Path) -> None:
    write_json(tmp_path / "policy.json", {"schema_version": 2})
    with pytest.raises(Psi0Error, match=r"policy.json: schema_version 2 is unknown .* rebuild it with `dvc repro`"):
        read_record(Evaluation, tmp_path / "policy.json")


def test_nothing_evaluated_is_void_not_a_crash(tmp_path: Path) -> None:
    evidence = gather(tmp_path / "none", tmp_path / "no graphs", PARAMS, TASK)
    result = verdict(evidence)
    assert result.verdict == "void" and len(result.reasons) == 6


class Page(HTMLParser):
    """Collects what matters of the report: addresses, headings, labels, tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.unlabelled: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "poster", "action", "data")]
        if tag in ("svg", "video", "img") and not ({"aria-label", "aria-labelledby", "alt"} & given.keys()):
            self.unlabelled.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_opens_by_itself(judged: Callable[[], GateFile]) -> None:
    result = judged()
    content = (paths.gate(TASK) / "report.html").read_text()
    page = Page(content)
    assert result.sentence in page.text and "20 of 21" in page.text
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "script" not in page.tags and "link" in page.tags and "@import" not in content and "url(" not in content
    assert page.tags.count("svg") == 4 and not page.unlabelled
    assert f"data:video/mp4;base64,{base64.b64encode(b'film').decode()}" in page.addresses
    rows = read_record(Evaluation, paths.evaluation(TASK) / "policy.json").rows
    assert all(str(row.seed) in page.text for row in rows)
    assert "1234567" in page.text


def test_the_report_of_a_void_verdict_opens_too(judged: Callable[[], GateFile]) -> None:
    (paths.evaluation(TASK) / "policy.json").unlink()
    assert judged().verdict == "void"
    page = Page((paths.gate(TASK) / "report.html").read_text())
    assert "policy.json is missing" in page.text
