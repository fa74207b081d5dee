"""The floor test: is the success rate above `p0`? A truncated sequential probability ratio test, or an exact one.

Wald's test (1945) with integer boundaries: after n episodes the policy is accepted at `accept_at(n)` successes or
more and rejected at `reject_at(n)` or fewer. No decision after `n_max` episodes means no promotion, which can only
lower the rate of false promotions. That this rate is at most `alpha` is not left to Wald's approximation: it is
computed exactly, and where it does not hold the upper boundary is raised. The boundaries are arrays, so that
simulating the test ten thousand times runs through the very function that decides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from psi0.evaluate.characteristics import characteristics
from psi0.params import Params

Decision = Literal["accept", "reject", "undecided"]

NEVER = -1
"""Boundary that cannot be reached: no count of successes is this low, and `accept_at` is n + 1 in that case."""


@dataclass(frozen=True)
class Step:
    """One episode of a test's path: the count so far and the bounds it is compared with."""

    episodes: int
    successes: int
    accept_at: int
    reject_at: int


@dataclass(frozen=True)
class Result:
    """Outcome of a test over a series of episodes; `path` ends with the episode that decided."""

    decision: Decision
    finished: bool
    path: tuple[Step, ...]

    @property
    def episodes(self) -> int:
        """Episodes consumed."""
        return len(self.path)

    @property
    def successes(self) -> int:
        """Successes among them."""
        return self.path[-1].successes if self.path else 0


class FloorTest(Protocol):
    """What the runner and the gate need of a test: two integer boundaries per number of episodes."""

    @property
    def n_max(self) -> int:
        """Most episodes."""
        ...

    def boundaries(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return `(accept_at, reject_at)`, each `(n_max,)`, entry n-1 holding after n episodes."""
        ...


@dataclass(frozen=True)
class SequentialTest:
    """Wald's sequential probability ratio test of p <= p0 against p >= p1, truncated at `n_max` episodes."""

    p0: float
    p1: float
    alpha: float
    beta: float
    n_max: int

    @property
    def success_weight(self) -> float:
        """Log-likelihood ratio that one success adds."""
        return math.log(self.p1 / self.p0)

    @property
    def failure_weight(self) -> float:
        """Log-likelihood ratio that one failure adds (negative)."""
        return math.log((1 - self.p1) / (1 - self.p0))

    def boundaries(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Integer boundaries of the test; see `FloorTest`. They hold `alpha` exactly, `beta` where `n_max` allows."""
        return _sequential_boundaries(self)

    def crossing(self, upper: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Boundaries that accept at a log-likelihood ratio of `upper` and reject at Wald's lower bound."""
        lower = math.log(self.beta / (1 - self.alpha))
        episodes = np.arange(1, self.n_max + 1)
        span = self.success_weight - self.failure_weight
        # A billionth of slack: the bound itself counts as reached, whatever the rounding of the logarithms.
        accept_at = np.ceil((upper - episodes * self.failure_weight) / span - 1e-9).astype(np.int64)
        reject_at = np.floor((lower - episodes * self.failure_weight) / span + 1e-9).astype(np.int64)
        return np.where(accept_at <= episodes, accept_at, episodes + 1), np.maximum(reject_at, NEVER)


@cache
def _sequential_boundaries(test: SequentialTest) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Wald's bound holds alpha only approximately (at most alpha / (1 - beta)); log(1 / alpha) always holds it (Ville).
    bounds = test.crossing(math.log((1 - test.beta) / test.alpha))
    if characteristics(*bounds, test.p0).accepted > test.alpha:
        bounds = test.crossing(math.log(1 / test.alpha))
    for bound in bounds:
        bound.flags.writeable = False
    return bounds


@dataclass(frozen=True)
class FixedTest:
    """Exact one-sided binomial test of p <= p0 after exactly `n_max` episodes."""

    p0: float
    alpha: float
    n_max: int

    def boundaries(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """No decision before the last episode; then accept when P(X >= k | p0) <= alpha, else reject."""
        accept_at = np.arange(2, self.n_max + 2)
        reject_at = np.full(self.n_max, NEVER)
        counts = np.arange(self.n_max + 2)
        enough = counts[binom.sf(counts - 1, self.n_max, self.p0) <= self.alpha]
        accept_at[-1] = enough[0]
        reject_at[-1] = enough[0] - 1
        return accept_at, reject_at


def floor_test(params: Params, task: str) -> SequentialTest | FixedTest:
    """The test that `gate` in params.yaml registers for a task."""
    gate = params.gate
    threshold = gate.thresholds[task]
    if gate.fixed_n:
        return FixedTest(threshold.p0, gate.alpha, gate.fixed_n)
    return SequentialTest(threshold.p0, threshold.p1, gate.alpha, gate.beta, gate.n_max)


def decide_many(test: FloorTest, outcomes: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run the test on many series of outcomes `(runs, episodes)` at once, `episodes` at most `n_max`.

    Returns:
        `(decision, episodes)`, each `(runs,)`: 1 accepted, -1 rejected, 0 undecided, and the episodes consumed.
    """
    runs, length = outcomes.shape
    if length == 0:
        return np.zeros(runs, np.int64), np.zeros(runs, np.int64)
    accept_at, reject_at = (bound[:length] for bound in test.boundaries())
    successes = np.cumsum(outcomes, axis=1)
    crossed = np.where(successes >= accept_at, 1, np.where(successes <= reject_at, -1, 0))
    first = np.argmax(crossed != 0, axis=1)
    decision = crossed[np.arange(runs), first]
    return decision, np.where(decision != 0, first + 1, length)


def decide(test: FloorTest, outcomes: Sequence[bool]) -> Result:
    """Run the test on one series of outcomes in seed order; what comes after the decision is not looked at."""
    series = np.asarray(outcomes, dtype=bool)[: test.n_max]
    decision, episodes = decide_many(test, series[None, :])
    accept_at, reject_at = test.boundaries()
    successes = np.cumsum(series)
    path = tuple(Step(n + 1, int(successes[n]), int(accept_at[n]), int(reject_at[n])) for n in range(int(episodes[0])))
    names: dict[int, Decision] = {1: "accept", -1: "reject", 0: "undecided"}
    finished = bool(decision[0] != 0 or len(path) == test.n_max)
    return Result(names[int(decision[0])], finished, path)
