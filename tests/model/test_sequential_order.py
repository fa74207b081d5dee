"""Results are consumed in the order of their seeds, whatever the parallelism: a slow worker cannot bias the test."""

import toy_world as toy
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluation_runner import SEEDS, arm, arm_run, rows, run, setup

from psi0.evaluate.rollout import Episode
from psi0.evaluate.runner import ArmRun
from psi0.evaluate.schemas import Row
from psi0.evaluate.sequential import SequentialTest, decide
from psi0.evaluate.store import Store
from psi0.evaluate.worker import Answer, Job

TEST = SequentialTest(0.3, 0.7, 0.05, 0.1, 30)


def episode(seed: int, success: bool) -> Episode:
    return Episode(Row(seed=seed, success=success, tag="", steps=1, qpos_sha256="", pixels_sha256=""), {})


@settings(deadline=None, max_examples=100)
@given(
    outcomes=st.lists(st.sampled_from([True, False, None]), min_size=60, max_size=60),
    workers=st.integers(1, 8),
    choices=st.randoms(use_true_random=False),
)
def test_any_order_of_arrival_gives_the_same_episodes(
    outcomes: list[bool | None], workers: int, choices: object
) -> None:
    """`None` is a scene that does not settle. Jobs finish in an order drawn anew each time."""
    known = dict(zip(SEEDS, outcomes, strict=True))
    one = ArmRun("policy", iter(SEEDS), 30, lambda seen: decide(TEST, seen).finished, Store(None, "toy"))
    under_way: list[Job] = []
    while not one.finished:
        while len(under_way) < workers and (job := one.next_job()) is not None:
            under_way.append(job)
        if not under_way:
            break
        job = under_way.pop(choices.randrange(len(under_way)))  # type: ignore[attr-defined]
        outcome = known[job.seed]
        answer = Answer("invalid") if outcome is None else Answer("episode", episode(job.seed, outcome))
        one.accept(job, answer)
        one.count()
    settled = [(seed, outcome) for seed, outcome in known.items() if outcome is not None][:30]
    consumed = decide(TEST, [outcome for _, outcome in settled]).episodes
    assert [(row.seed, row.success) for row in rows(one)] == settled[:consumed]


def test_workers_that_are_slow_to_fail_change_nothing() -> None:
    slow, quick = arm_run("policy"), arm_run("policy")
    run([slow], setup(arm("policy", toy.make_slow_to_fail)), 4)
    run([quick], setup(arm("policy", toy.make_careless)), 1)
    assert rows(slow) == rows(quick)
    outcomes = [row.success for row in rows(quick)]
    assert outcomes.count(False) > 0 and decide(TEST, outcomes).finished
