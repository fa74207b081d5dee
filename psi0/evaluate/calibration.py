"""The gate's own error rates: how often it promotes and refuses policies whose success rate is known.

Policies are simulated through `decide_many`, the function behind every verdict, and each rate is computed exactly as
well, so that a mistake in either shows. Beside the registered test stands its rival, the exact binomial test of a
fixed number of episodes that has at least the same power.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import binom

from psi0.evaluate import plan as planning
from psi0.evaluate.characteristics import Characteristics, characteristics
from psi0.evaluate.control_test import ControlTest
from psi0.evaluate.schemas import Hash
from psi0.evaluate.sequential import FloorTest, SequentialTest, decide, decide_many, floor_test
from psi0.params import Params

ATTEMPTS = (1, 5, 20)
STANDARD_ERRORS = 3
"""Standard errors of the simulation by which a rate may be off: what tables call the Monte Carlo error."""
CONTROL_ERROR = 0.05
_LONGEST_RIVAL = 5000


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Record):
    """What the test does with policies of one success rate."""

    success_rate: float
    promoted: float = Field(description="Share of simulated policies that were promoted")
    error: float = Field(description="Monte Carlo error of that share")
    exact: float = Field(description="Probability of promotion, computed exactly")
    mean_episodes: float
    p95_episodes: int
    rival_promoted: float | None = Field(description="Probability of promotion by the fixed test, exact")


class Rival(_Record):
    """The exact binomial test of a fixed number of episodes with at least the power of the sequential one."""

    episodes: int
    successes_needed: int
    false_promotion: float
    power: float


class Attempts(_Record):
    """So many candidates at p0, each on seeds of its own: the chance that at least one is promoted."""

    candidates: int
    promoted: float
    error: float
    exact: float


class Control(_Record):
    """What the test of a control does."""

    ceiling: float
    episodes: int = Field(description="Most episodes")
    most_successes: int = Field(description="Successes among them with which it still holds; -1: it never does")
    clear_after: int | None = Field(description="Episodes after which a control that never succeeds has held")
    wrongly_held: float = Field(description="Probability that one at its ceiling holds all the same, exact")


class Check(_Record):
    """One thing that must be true of the gate."""

    name: str
    value: float
    relation: Literal["at most", "at least"]
    limit: float
    holds: bool


class Calibration(_Record):
    """The error rates of one task's plan (`calibration.json`)."""

    schema_version: Literal[1] = 1
    task: str
    plan_sha256: Hash
    test: Literal["sequential", "fixed"]
    p0: float
    p1: float
    alpha: float
    beta: float
    n_max: int
    runs: int = Field(description="Simulated policies per success rate")
    rates: list[Rate]
    rival: Rival | None
    attempts: list[Attempts]
    controls: dict[str, Control]
    checks: list[Check]


def calibrate(params: Params, task: str, runs: int) -> Calibration:
    """Measure the plan that `params` registers for a task. The same arguments give the same numbers."""
    gate, threshold = params.gate, params.gate.thresholds[task]
    test = floor_test(params, task)
    p0, p1 = threshold.p0, threshold.p1
    random = np.random.default_rng(0)
    exact = {rate: characteristics(*test.boundaries(), rate) for rate in success_rates(p0, p1)}
    rival = find_rival(p0, p1, gate.alpha, exact[p1].accepted) if isinstance(test, SequentialTest) else None
    rates = [_simulate(test, rate, known, rival, runs, random) for rate, known in exact.items()]
    controls = {
        name: _control(ControlTest(ceiling, params.evaluation.control_episodes))
        for name, ceiling in params.control_ceilings(task).items()
    }
    by_rate = {rate.success_rate: rate for rate in rates}
    return Calibration(
        task=task,
        plan_sha256=planning.register(params, task).sha256,
        test="fixed" if gate.fixed_n else "sequential",
        p0=p0,
        p1=p1,
        alpha=gate.alpha,
        beta=gate.beta,
        n_max=test.n_max,
        runs=runs,
        rates=rates,
        rival=rival,
        attempts=_attempts(test, p0, exact[p0].accepted, runs, random),
        controls=controls,
        checks=_checks(gate.alpha, gate.beta, by_rate[p0], by_rate[p1], rates, rival, controls, runs),
    )


def success_rates(p0: float, p1: float) -> list[float]:
    """The rates that are looked at: p0, p1, between, below and above."""
    gap = p1 - p0
    between = [p0 + gap * share for share in (0.25, 0.5, 0.75)]
    rates = [p0 - 0.2, p0 - 0.1, p0, *between, p1, (1 + p1) / 2]
    return [rate if rate in (p0, p1) else round(rate, 3) for rate in rates if rate > 0]


def find_rival(p0: float, p1: float, alpha: float, power: float) -> Rival | None:
    """The smallest exact binomial test of level `alpha` with at least this power at p1; None beyond 5000 episodes."""
    episodes = np.arange(1, _LONGEST_RIVAL + 1)
    below = binom.isf(alpha, episodes, p0)
    reached = binom.sf(below, episodes, p1) >= power
    if not reached.any():
        return None
    first = int(np.argmax(reached))
    return Rival(
        episodes=first + 1,
        successes_needed=int(below[first]) + 1,
        false_promotion=float(binom.sf(below[first], first + 1, p0)),
        power=float(binom.sf(below[first], first + 1, p1)),
    )


def _simulate(
    test: FloorTest,
    rate: float,
    known: Characteristics,
    rival: Rival | None,
    runs: int,
    random: np.random.Generator,
) -> Rate:
    decision, episodes = _run(test, rate, runs, random)
    promoted = float(np.mean(decision == 1))
    return Rate(
        success_rate=rate,
        promoted=promoted,
        error=_error(promoted, runs),
        exact=known.accepted,
        mean_episodes=float(episodes.mean()),
        p95_episodes=int(np.quantile(episodes, 0.95, method="inverted_cdf")),
        rival_promoted=float(binom.sf(rival.successes_needed - 1, rival.episodes, rate)) if rival else None,
    )


def _attempts(test: FloorTest, p0: float, exact: float, runs: int, random: np.random.Generator) -> list[Attempts]:
    """Histories of candidates: each meets seeds of its own, so each is a fresh draw."""
    promoted = np.stack([_run(test, p0, runs, random)[0] == 1 for _ in range(max(ATTEMPTS))])
    found = []
    for count in ATTEMPTS:
        share = float(promoted[:count].any(axis=0).mean())
        found.append(
            Attempts(candidates=count, promoted=share, error=_error(share, runs), exact=1 - (1 - exact) ** count)
        )
    return found


def _run(
    test: FloorTest, rate: float, runs: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return decide_many(test, random.random((runs, test.n_max), dtype=np.float32) < rate)


def _control(test: ControlTest) -> Control:
    clear = decide(test, [True] * test.n_max)
    return Control(
        ceiling=test.ceiling,
        episodes=test.n_max,
        most_successes=test.most_successes,
        clear_after=clear.episodes if clear.decision == "accept" else None,
        wrongly_held=characteristics(*test.boundaries(), 1 - test.ceiling).accepted,
    )


def _checks(
    alpha: float,
    beta: float,
    at_p0: Rate,
    at_p1: Rate,
    rates: list[Rate],
    rival: Rival | None,
    controls: dict[str, Control],
    runs: int,
) -> list[Check]:
    # Two errors and a few events of slack: eight rates are compared, some of them rarer than one promotion.
    stray = max(abs(rate.promoted - rate.exact) - 2 * _error(rate.exact, runs) for rate in rates)
    checks = [
        _check("false promotion at p0, simulated", at_p0.promoted, "at most", alpha + _error(alpha, runs)),
        _check("false promotion at p0, exact", at_p0.exact, "at most", alpha),
        _check("power at p1, simulated", at_p1.promoted, "at least", 1 - beta - _error(beta, runs)),
        _check("power at p1, exact", at_p1.exact, "at least", 1 - beta),
        _check("simulation off the exact value by more than twice the error", stray, "at most", 3 / runs),
    ]
    if rival is not None:
        for name, rate in (("p0", at_p0), ("p1", at_p1)):
            checks.append(_check(f"mean episodes at {name}", rate.mean_episodes, "at most", rival.episodes))
    for name, control in controls.items():
        checks.append(
            _check(f"control {name} at its ceiling holds, exact", control.wrongly_held, "at most", CONTROL_ERROR)
        )
    return checks


def _check(name: str, value: float, relation: Literal["at most", "at least"], limit: float) -> Check:
    return Check(
        name=name,
        value=value,
        relation=relation,
        limit=limit,
        holds=value <= limit if relation == "at most" else value >= limit,
    )


def _error(share: float, runs: int) -> float:
    return STANDARD_ERRORS * math.sqrt(share * (1 - share) / runs)
