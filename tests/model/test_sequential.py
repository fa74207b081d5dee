"""The floor test against hand-computed paths, and its error rates, exact and simulated."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from psi0.evaluate.characteristics import characteristics
from psi0.evaluate.sequential import FixedTest, SequentialTest, decide, decide_many

PICK_CAN = SequentialTest(0.75, 0.92, 0.05, 0.10, 100)


def test_an_unbroken_row_of_successes_is_accepted_when_walds_bound_is_reached() -> None:
    # ln(0.9 / 0.05) = 2.8904 and ln(0.92 / 0.75) = 0.20431: 14 successes give 2.860, 15 give 3.065.
    assert decide(PICK_CAN, [True] * 14) == decide(PICK_CAN, [True] * 14)
    assert decide(PICK_CAN, [True] * 14).decision == "undecided"
    assert not decide(PICK_CAN, [True] * 14).finished
    result = decide(PICK_CAN, [True] * 40)
    assert (result.decision, result.episodes, result.successes) == ("accept", 15, 15)


def test_failures_alone_are_rejected_when_walds_lower_bound_is_reached() -> None:
    # ln(0.1 / 0.95) = -2.2513 and ln(0.08 / 0.25) = -1.1394: one failure gives -1.14, two give -2.279.
    result = decide(PICK_CAN, [False] * 10)
    assert (result.decision, result.episodes, result.successes) == ("reject", 2, 0)


def test_one_failure_costs_as_many_successes_as_its_weight() -> None:
    # -1.1394 + n 0.20431 >= 2.8904 from n = 19.72: 20 successes besides one failure.
    assert decide(PICK_CAN, [False, *[True] * 19]).decision == "undecided"
    result = decide(PICK_CAN, [False, *[True] * 30])
    assert (result.decision, result.episodes, result.successes) == ("accept", 21, 20)


def test_no_decision_at_the_end_is_no_promotion() -> None:
    outcomes = ([True] * 6 + [False]) * 20
    result = decide(PICK_CAN, outcomes)
    assert (result.decision, result.episodes, result.finished) == ("undecided", 100, True)


def test_the_path_holds_the_bounds_it_was_compared_with() -> None:
    path = decide(PICK_CAN, [True] * 40).path
    assert [step.successes for step in path] == list(range(1, 16))
    assert path[-1].accept_at == 15 and path[0].accept_at == 2 and path[0].reject_at == -1
    assert decide(PICK_CAN, []).path == ()


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=120))
def test_integer_boundaries_equal_walds_ratio(outcomes: list[bool]) -> None:
    result = decide(PICK_CAN, outcomes)
    ratio, expected = 0.0, "undecided"
    for count, success in enumerate(outcomes[:100], 1):
        ratio += math.log(0.92 / 0.75) if success else math.log(0.08 / 0.25)
        if ratio >= math.log(0.9 / 0.05):
            expected = "accept"
        elif ratio <= math.log(0.1 / 0.95):
            expected = "reject"
        if expected != "undecided":
            assert result.episodes == count
            break
    assert result.decision == expected


@pytest.mark.parametrize(("p0", "p1"), [(0.75, 0.92), (0.70, 0.88)])
def test_error_rates_of_registered_plans_hold(p0: float, p1: float) -> None:
    test, random, runs = SequentialTest(p0, p1, 0.05, 0.10, 100), np.random.default_rng(0), 10_000
    for rate in (p0, p1):
        exact = characteristics(*test.boundaries(), rate)
        decision, episodes = decide_many(test, random.random((runs, 100)) < rate)
        assert np.mean(decision == 1) == pytest.approx(exact.accepted, abs=3 * math.sqrt(0.25 / runs))
        assert np.mean(decision == -1) == pytest.approx(exact.rejected, abs=3 * math.sqrt(0.25 / runs))
        assert np.mean(episodes) == pytest.approx(exact.mean_episodes, rel=0.03)
        assert np.mean(episodes <= exact.p95_episodes) >= 0.94
    assert characteristics(*test.boundaries(), p0).accepted <= 0.05
    assert characteristics(*test.boundaries(), p1).accepted >= 0.90


def test_walds_bound_is_raised_where_it_would_promote_too_often() -> None:
    test = SequentialTest(0.85, 0.95, 0.05, 0.20, 200)
    wald = test.crossing(math.log(0.8 / 0.05))
    assert characteristics(*wald, 0.85).accepted > 0.05
    assert characteristics(*test.boundaries(), 0.85).accepted <= 0.05
    assert characteristics(*test.boundaries(), 0.95).accepted >= 0.80


@settings(max_examples=40, deadline=None)
@given(
    p0=st.floats(0.3, 0.9),
    gap=st.floats(0.02, 0.3),
    alpha=st.floats(0.005, 0.2),
    beta=st.floats(0.02, 0.4),
    n_max=st.integers(1, 120),
)
def test_no_plan_promotes_a_policy_at_p0_more_often_than_alpha(
    p0: float, gap: float, alpha: float, beta: float, n_max: int
) -> None:
    test = SequentialTest(p0, min(p0 + gap, 0.99), alpha, beta, n_max)
    for rate in (p0, 0.9 * p0):
        found = characteristics(*test.boundaries(), rate)
        assert found.accepted <= alpha
        assert 0 <= found.accepted + found.rejected <= 1 + 1e-9 and 1 <= found.mean_episodes <= n_max + 1e-9


def test_exact_characteristics_of_a_fixed_test_are_binomial() -> None:
    found = characteristics(*FixedTest(0.7, 0.05, 50).boundaries(), 0.88)
    assert found.accepted == pytest.approx(binomtest(41, 50, 0.88, alternative="greater").pvalue)
    assert found.accepted + found.rejected == pytest.approx(1)
    assert found.mean_episodes == pytest.approx(50) and found.p95_episodes == 50


def test_the_fixed_test_is_the_exact_binomial_one() -> None:
    test = FixedTest(0.7, 0.05, 50)
    assert decide(test, [True] * 49).decision == "undecided"
    needed = next(k for k in range(51) if binomtest(k, 50, 0.7, alternative="greater").pvalue <= 0.05)
    assert needed == 41, "the count in the literature: one-sided 95 % bound above 0.70 with 50 episodes"
    assert decide(test, [True] * 41 + [False] * 9).decision == "accept"
    assert decide(test, [True] * 40 + [False] * 10).decision == "reject"
    assert decide(FixedTest(0.99, 0.05, 2), [True, True]).decision == "reject", "too few to ever accept"
