"""`gate.compare_torch`: the torch policy on the seeds of the graphs, and what a difference means."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import toy_world as toy
import verdicts
from scipy.stats import binomtest
from verdicts import GRAPHS, POLICY, TASK, arm, good, verdict, with_arm

from psi0.errors import Psi0Error
from psi0.evaluate.evaluation import Arrangement, evaluate_planned
from psi0.evaluate.evidence import required_arms
from psi0.evaluate.paired import SIGNIFICANCE, compare_with_torch
from psi0.evaluate.plan import derived_seeds, register
from psi0.evaluate.resolve import PolicySpec, torch_twin
from psi0.evaluate.rollout import Pace
from psi0.evaluate.sequential import SequentialTest, decide_many
from psi0.evaluate.worker import Arm, Setup
from psi0.model.config import read_config, write_config
from psi0.model.manifest import check_manifest, write_manifest
from psi0.model.policy_config import LAYOUT_FILE, Layout
from psi0.params import Params, parse_params
from psi0.policy import Observation
from psi0.settings import settings

PARAMS = verdicts.PARAMS.model_copy(update={"gate": verdicts.PARAMS.gate.model_copy(update={"compare_torch": True})})
JUDGED = [True, False, *[True] * 19]


def with_torch(outcomes: list[bool], **changes: object) -> dict[str, object]:
    evidence = good(params=PARAMS)
    result = verdict(with_arm(arm("torch", outcomes, params=PARAMS, **changes), evidence), PARAMS)
    return {"verdict": result.verdict, "reasons": result.reasons, "torch": result.torch}


def test_the_default_plan_asks_for_no_torch() -> None:
    assert "torch" not in required_arms(Params(), TASK) and required_arms(PARAMS, TASK)[-1] == "torch"
    assert verdict(good()).torch is None


def test_graphs_that_act_like_torch_pass() -> None:
    same = with_torch(JUDGED)
    assert same["verdict"] == "pass" and same["torch"] == compare_with_torch(
        arm("policy", JUDGED).rows, arm("policy", JUDGED).rows
    )
    close = with_torch([False, False, *[True] * 19])
    assert close["verdict"] == "pass"


def test_a_significant_difference_is_refused_in_either_direction() -> None:
    worse = with_torch([False] * 7 + [True] * 14)
    assert worse["verdict"] == "refuse"
    assert "of 21 common seeds the graphs alone succeed on 6, torch alone on 0 (exact McNemar p 0.031)" in str(worse)
    graphs, torch = arm("policy", [False] * 6 + [True] * 14).rows, arm("policy", [True] * 20).rows
    result = compare_with_torch(graphs, torch)
    assert (result.graphs_only, result.torch_only, result.holds) == (0, 6, False) and result.difference == -0.3
    assert compare_with_torch(graphs[1:], torch[1:]).holds, "five of five happen by chance in one case of sixteen"


@pytest.mark.parametrize(
    ("outcomes", "changes", "reason"),
    [
        (JUDGED[:-1], {}, "torch.json: holds other seeds than policy.json"),
        ([*JUDGED, True], {}, "torch.json: holds other seeds than policy.json"),
        (JUDGED, {"policy": "graphs"}, "torch.json was run with 'graphs'"),
        (JUDGED, {"policy_sha256": "00" * 32}, "torch.json judges another policy"),
        (JUDGED, {"delay_steps": 0}, "torch.json was run with an inference delay of 0"),
    ],
)
def test_a_torch_arm_that_is_no_twin_is_void(outcomes: list[bool], changes: dict[str, object], reason: str) -> None:
    result = with_torch(outcomes, **changes)
    assert result["verdict"] == "void" and reason in str(result["reasons"])


def test_weights_in_place_of_graphs_are_void() -> None:
    result = verdict(with_arm(arm("policy", JUDGED, policy="weights")))
    assert result.verdict == "void" and "policy.json was run with 'weights'" in result.reasons[0]


@cache
def p_value(wins: int, losses: int) -> float:
    return float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


@pytest.mark.parametrize("rate", [0.75, 0.92])
def test_ending_with_the_floor_test_keeps_the_comparison_conservative(rate: float) -> None:
    """Two equal policies, their outcomes independent, which is the worst case: twins agree on nearly every seed."""
    runs, random = 4000, np.random.default_rng(0)
    graphs, torch = random.random((runs, 100)) < rate, random.random((runs, 100)) < rate
    _, episodes = decide_many(SequentialTest(0.75, 0.92, 0.05, 0.10, 100), graphs)
    judged = np.arange(100) < episodes[:, None]
    wins, losses = (graphs & ~torch & judged).sum(axis=1), (torch & ~graphs & judged).sum(axis=1)
    differ = [p_value(*pair) < SIGNIFICANCE for pair in zip(wins.tolist(), losses.tolist(), strict=True)]
    assert np.mean(differ) <= 0.02


def toy_setup(params: Params, task: str, arrangements: Sequence[Arrangement]) -> Setup:
    """Of the seeds that the plan draws the scene of the first does not settle, and the graphs fail on the second."""
    first, second = islice(derived_seeds(register(params, task).sha256, arrangements[0].spec.sha256), 2)
    policies = {"policy": partial(toy.make_missing, second), "torch": toy.make_seeing}
    arms = tuple(Arm(a.name, policies.get(a.name, toy.make_wrong), Pace(4, 1), a.control) for a in arrangements)
    return Setup(partial(toy.ToyWorld, first), toy.UnsettledError, 8, 8, 10, arms)  # type: ignore[arg-type]


def test_torch_follows_on_the_seeds_of_the_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    write_manifest(tmp_path / "policy", policy_sha256=POLICY)
    gate = {"compare_torch": True, "thresholds": {TASK: {"p0": 0.3, "p1": 0.7}}, "control_ceilings": {"blind": 0.4}}
    params = parse_params({"evaluation": {"videos": 0}, "gate": gate}, "test")
    spec = PolicySpec("graphs", POLICY, 16, graphs_sha256=GRAPHS)
    found = {
        name: one.evaluation
        for name, one in evaluate_planned(params, TASK, spec, tmp_path / "policy", toy_setup).items()
    }
    assert list(found) == ["policy", "blind", "torch"]
    policy, torch = found["policy"], found["torch"]
    assert [row.seed for row in torch.rows] == [row.seed for row in policy.rows] and policy.invalid_seeds
    assert torch.invalid_seeds == policy.invalid_seeds and torch.policy == "weights"
    assert torch.summary.successes == len(torch.rows) > policy.summary.successes
    assert torch.summary.interval.descriptive and torch.delay_steps == policy.delay_steps == 2
    assert len(found["blind"].rows) == 11, "a control that is clearly failing stops before its 30 episodes"
    settings.cache_clear()


def test_another_policy_beside_the_graphs_is_refused_before_anything_runs(tmp_path: Path) -> None:
    spec = PolicySpec("graphs", POLICY, 16, graphs_sha256=GRAPHS)
    with pytest.raises(Psi0Error, match=r"manifest\.json is missing"):
        evaluate_planned(PARAMS, TASK, spec, tmp_path / "nowhere", toy_setup)
    write_manifest(tmp_path, policy_sha256="00" * 32)
    with pytest.raises(Psi0Error, match=r"holds policy 000000000000, the graphs were exported from abab.*export"):
        torch_twin(tmp_path, spec)


def test_the_twin_keeps_the_limits_of_the_graphs(policy_folder: Path, tmp_path: Path) -> None:
    layout = read_config(policy_folder / LAYOUT_FILE, Layout)
    narrow = layout.model_copy(update={"action_low": [-0.01] * 36, "action_high": [0.02] * 36})
    write_config(tmp_path / LAYOUT_FILE, narrow)
    identity = check_manifest(policy_folder)["policy_sha256"]
    spec = torch_twin(policy_folder, PolicySpec("graphs", identity, 8, str(tmp_path), GRAPHS))
    assert (spec.kind, spec.sha256, spec.graphs_sha256) == ("weights", identity, GRAPHS)
    seen = Observation(np.zeros((48, 64, 3), np.uint8), np.zeros(32, np.float32), "pick up the can", 0, None, 0)
    limited, free = spec(toy.make_toy_world()), replace(spec, limits="")(toy.make_toy_world())  # type: ignore[arg-type]
    for one in (limited, free):
        one.reset(3)
    wide = free.act(seen)
    assert wide.max() > 0.02 and np.array_equal(limited.act(seen), np.clip(wide, -0.01, np.float32(0.02)))
