"""The comparison with the champion: exact p-values, fresh seeds, one family, and no number that is merely believed."""

from itertools import islice
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from psi0.errors import Psi0Error
from psi0.evaluate.noninferiority import holm, p_not_inferior, p_superior
from psi0.evaluate.plan import derived_seeds
from psi0.evaluate.schemas import Evaluation, Row
from psi0.params import Promote
from psi0.registry.comparison import Comparison, Side, compare, decide_together, faults, fresh_seeds

PLAN, POLICY = "ab" * 32, "cd" * 32
NEW = Side(version="7", policy_sha256=POLICY, graphs_sha256="ef" * 32)
OLD = Side(version="3", policy_sha256="12" * 32, graphs_sha256="34" * 32)
PLANNED = Promote(episodes=60)


def row(seed: int, success: bool) -> Row:
    return Row(seed=seed, success=success, tag="", steps=1, qpos_sha256="", pixels_sha256="")


def evaluation(task: str = "pick_can", invalid: int = 1) -> Evaluation:
    seeds = list(islice(derived_seeds(PLAN, POLICY), 16))
    return Evaluation.model_construct(
        task=task,
        plan_sha256=PLAN,
        policy_sha256=POLICY,
        rows=[row(seed, True) for seed in seeds[invalid:]],
        invalid_seeds=seeds[:invalid],
    )


def played(wins: int, losses: int, task: str = "pick_can", planned: Promote = PLANNED) -> Comparison:
    judged = evaluation(task)
    seeds = list(islice(fresh_seeds(judged), planned.episodes))
    new = [index >= losses for index in range(len(seeds))]
    old = [not losses <= index < losses + wins for index in range(len(seeds))]
    rows = tuple([row(seed, success) for seed, success in zip(seeds, side, strict=True)] for side in (new, old))
    return compare(NEW, OLD, judged, rows, [], planned)  # type: ignore[arg-type]


def test_a_candidate_without_a_single_loss_needs_as_many_seeds_as_the_arithmetic_says() -> None:
    # No champion-only seed among n: the most favourable outcome, (1 - margin)^n likely at the margin.
    assert p_not_inferior(0, 0, 59, 0.05) == pytest.approx(0.95**59, rel=1e-3)
    assert p_not_inferior(0, 0, 58, 0.05) > 0.05 > p_not_inferior(0, 0, 59, 0.05)


@pytest.mark.parametrize(("episodes", "margin"), [(12, 0.2), (20, 0.1), (16, 0.0)])
def test_a_policy_at_the_margin_passes_no_more_often_than_alpha(episodes: int, margin: float) -> None:
    outcomes = [(b, c) for b in range(episodes + 1) for c in range(episodes + 1 - b)]
    passing = [(b, c) for b, c in outcomes if p_not_inferior(b, c, episodes, margin) <= 0.05]
    for loss in np.linspace(margin, (1 + margin) / 2, 25):
        win = loss - margin
        tie = max(0.0, 1 - win - loss)
        rate = sum(
            comb(episodes, b) * comb(episodes - b, c) * win**b * loss**c * tie ** (episodes - b - c) for b, c in passing
        )
        assert rate <= 0.05 + 1e-6, f"at {loss:.3f} champion-only seeds"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 20))
@example(1, 4, 0)
def test_more_losses_never_help(wins: int, losses: int, ties: int) -> None:
    episodes = wins + losses + ties + 1
    fine = p_not_inferior(wins, losses, episodes, 0.1)
    assert 0 <= fine <= p_not_inferior(wins, losses + 1, episodes, 0.1) + 1e-9
    if fine <= 0.5:
        assert p_not_inferior(wins, losses, episodes, 0.2) <= fine + 1e-9, "a wider margin is easier"
    assert p_superior(wins, losses) <= p_superior(wins, losses + 1) + 1e-12


def test_superiority_is_mcnemar_exact() -> None:
    assert p_superior(5, 0) == pytest.approx(1 / 32)
    assert p_superior(2, 3) == pytest.approx(26 / 32)
    assert p_superior(0, 0) == 1.0


def test_impossible_counts_are_refused() -> None:
    for counts in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="do not fit"):
            p_not_inferior(*counts, 0.1)


def test_holm_by_hand() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {} and holm({"a": 0.9, "b": 0.8})["a"] == 1.0


def test_fresh_seeds_are_the_candidates_own_and_none_that_the_gate_saw() -> None:
    judged = evaluation()
    fresh = list(islice(fresh_seeds(judged), 100))
    assert not set(fresh) & {*(row.seed for row in judged.rows), *judged.invalid_seeds}
    assert fresh == list(islice(derived_seeds(PLAN, POLICY), 116))[16:]


def test_what_is_asked_is_what_the_parameters_plan() -> None:
    assert played(0, 0).sufficient and "is shown to be not inferior by 10%" in played(0, 0).sentence
    assert not played(0, 9).sufficient
    better = PLANNED.model_copy(update={"require": "superiority"})
    assert not played(0, 0, planned=better).sufficient
    assert played(6, 0, planned=better).sufficient and "shown to be better" in played(6, 0, planned=better).sentence


def test_tasks_that_are_decided_together_share_the_error_rate() -> None:
    alone = [played(0, 1, task) for task in ("pick_can", "push_cart", "carry_place_can")]
    assert all(one.sufficient for one in alone)
    together = decide_together([*alone[:2], played(0, 9, "carry_place_can")])
    p_value = alone[0].p_value
    assert [one.adjusted_p_value for one in together[:2]] == pytest.approx([3 * p_value] * 2, abs=1e-8)
    assert [one.sufficient for one in together] == [3 * p_value <= 0.05] * 2 + [False]
    assert faults(together[0], NEW, OLD, evaluation(), PLANNED) == []


def test_a_recorded_comparison_must_follow_from_its_pairs() -> None:
    good = played(0, 1)
    assert faults(good, NEW, OLD, evaluation(), PLANNED) == []
    first = good.pairs[0]
    for change, fault in (
        ({"sufficient": False}, "edited"),
        ({"p_value": 0.0001}, "edited"),
        ({"pairs": [first.model_copy(update={"candidate": True}), *good.pairs[1:]]}, "edited"),
        ({"pairs": good.pairs[1:]}, "seeds that the plan did not draw"),
        ({"pairs": good.pairs[:-1]}, "holds 59 pairs, 60 are planned"),
        ({"margin": 0.3}, "not decided as the candidate's parameters plan"),
        ({"plan_sha256": "00" * 32}, "another plan"),
        ({"champion": NEW}, "other versions"),
    ):
        found = faults(good.model_copy(update=change), NEW, OLD, evaluation(), PLANNED)
        assert any(fault in one for one in found), change


def test_other_seeds_are_refused() -> None:
    judged = evaluation()
    with pytest.raises(Psi0Error, match="same seeds"):
        compare(NEW, OLD, judged, ([row(1, True)], [row(2, True)]), [], PLANNED)
    with pytest.raises(Psi0Error, match="same seeds"):
        compare(NEW, OLD, judged, ([], []), [], PLANNED)
