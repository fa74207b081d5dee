"""Controls: a ceiling is an upper confidence bound, and a control ends as soon as its outcome is clear."""

import numpy as np
import pytest
from verdicts import POLICY, arm, good, verdict, with_arm

from psi0.evaluate.characteristics import characteristics
from psi0.evaluate.control_test import ControlTest, control_bound
from psi0.evaluate.evaluation import planned_arm, planned_arms
from psi0.evaluate.intervals import upper_bound
from psi0.evaluate.resolve import PolicySpec
from psi0.evaluate.sequential import decide
from psi0.evaluate.stopping import consume
from psi0.params import Params, parse_params

GRAPHS_SPEC = PolicySpec("graphs", POLICY, 16)


@pytest.mark.parametrize(("ceiling", "needed"), [(0.25, 19), (0.35, 13), (0.40, 11)])
def test_a_control_that_is_clearly_failing_stops_early(ceiling: float, needed: int) -> None:
    test = ControlTest(ceiling, 30)
    result = decide(test, [True] * 30)
    assert (result.decision, result.episodes) == ("accept", needed)
    assert control_bound(0, needed, 30) < ceiling <= control_bound(0, needed - 1, 30)


def test_a_control_that_succeeds_too_often_stops_early() -> None:
    test = ControlTest(0.25, 30)
    assert test.most_successes == 3
    assert (decide(test, [False] * 30).decision, decide(test, [False] * 30).episodes) == ("reject", 4)
    late = [True] * 5 + [False] * 3 + [True] * 20
    assert not decide(test, late).finished and decide(test, [*late, False]).decision == "reject"


def test_a_control_between_gets_its_full_count() -> None:
    outcomes = [True] * 9 + [False] * 3 + [True] * 18
    result = decide(ControlTest(0.25, 30), outcomes)
    assert (result.decision, result.episodes) == ("accept", 30)
    assert control_bound(3, 30, 30) == pytest.approx(upper_bound(3, 30, 0.96)) and control_bound(3, 30, 30) < 0.25


@pytest.mark.parametrize("ceiling", [0.25, 0.35, 0.40])
@pytest.mark.parametrize("planned", [10, 20, 30, 60])
def test_a_control_at_its_ceiling_holds_in_five_percent_at_most(ceiling: float, planned: int) -> None:
    bounds = ControlTest(ceiling, planned).boundaries()
    for rate in (ceiling, ceiling + 0.1):
        assert characteristics(*bounds, 1 - rate).accepted <= 0.05
    failing = characteristics(*ControlTest(ceiling, 30).boundaries(), 1.0)
    assert failing.accepted == 1.0 and failing.mean_episodes < 20


def test_the_bound_covers_whenever_the_control_stops() -> None:
    runs, planned = 4000, 30
    for rate in (0.05, 0.25, 0.4):
        outcomes = np.random.default_rng(2).random((runs, planned)) < rate
        counts = np.cumsum(outcomes, axis=1)
        below = np.zeros(runs, bool)
        for n in range(1, planned + 1):
            bounds = {count: control_bound(count, n, planned) for count in set(counts[:, n - 1].tolist())}
            below |= np.array([bounds[count] < rate for count in counts[:, n - 1].tolist()])
        assert below.mean() <= 0.05


def test_too_few_episodes_can_show_nothing() -> None:
    test = ControlTest(0.25, 2)
    assert test.most_successes == -1
    assert decide(test, [True, True]).decision == "undecided" and decide(test, [False]).decision == "reject"


def test_the_verdict_names_bound_and_count() -> None:
    result = verdict(good()).controls["blind"]
    assert (result.episodes, result.successes, result.holds) == (19, 0, True)
    assert result.upper_bound == pytest.approx(control_bound(0, 19, 20), abs=1e-6) and result.upper_bound < 0.25
    broken = verdict(with_arm(arm("blind", [True, False, True])))
    assert not broken.controls["blind"].holds and broken.controls["blind"].upper_bound > 0.25
    assert "2 of 3 episodes succeeded, upper 95 % bound" in broken.reasons[0] and "ceiling 0.25" in broken.reasons[0]


def test_every_arm_of_the_plan_ends_with_its_own_test() -> None:
    params = Params()
    arms = {one.name: one for one in planned_arms(params, "pick_can", GRAPHS_SPEC)}
    assert list(arms) == ["policy", "blind", "swapped_image", "script"]
    assert {one.stop for one in arms.values()} == {"test"}
    assert consume(params, "pick_can", "policy", [True] * 40).episodes == 15
    assert consume(params, "pick_can", "script", [False] * 40).episodes == 11
    without = parse_params({"gate": {"control_ceilings": {"script": 0.4}}}, "test")
    assert planned_arm(without, "pick_can", GRAPHS_SPEC, "blind").stop == "limit", "a control without a ceiling"
