"""Intervals against published values, and the confidence sequence against every stopping rule we can think of."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from psi0.evaluate.intervals import confidence_sequence, mixture_bounds, upper_bound, wilson
from psi0.evaluate.sequential import SequentialTest, decide_many

RUNS, LENGTH = 1000, 100


def test_fixed_intervals_agree_with_published_values() -> None:
    assert (round(wilson(8, 10, False).low, 2), round(wilson(8, 10, False).high, 2)) == (0.49, 0.94)
    assert (round(wilson(80, 100, True).low, 2), round(wilson(80, 100, True).high, 2)) == (0.71, 0.87)
    assert wilson(80, 100, True).descriptive and wilson(0, 0, False).high == 1.0
    assert upper_bound(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert upper_bound(0, 0) == 1.0 and upper_bound(3, 3) == 1.0
    assert upper_bound(2, 20, 0.96) > upper_bound(2, 20)


def test_the_sequence_by_hand() -> None:
    # Uniform mixing of one success: the ratio at rate p is 1 / (2 p), which is 20 at p = 1 / 40.
    assert mixture_bounds(1, 1, 0.05, (1.0, 1.0)) == (pytest.approx(1 / 40), 1.0)
    # Two failures: 1 / (3 (1 - p)^2) = 20.
    assert mixture_bounds(0, 2, 0.05, (1.0, 1.0)) == (0.0, pytest.approx(1 - math.sqrt(1 / 60)))
    assert confidence_sequence(0, 0) == confidence_sequence(0, 0).model_copy(update={"low": 0.0, "high": 1.0})
    found = confidence_sequence(20, 21)
    assert found.method == "beta_binomial_mixture" and not found.descriptive


@given(episodes=st.integers(1, 150), share=st.floats(0, 1))
@settings(deadline=None)
def test_the_sequence_holds_the_observed_rate_and_is_symmetric(episodes: int, share: float) -> None:
    successes = round(share * episodes)
    low, high = mixture_bounds(successes, episodes, 0.05, (0.5, 0.5))
    assert 0 <= low <= successes / episodes <= high <= 1
    assert mixture_bounds(episodes - successes, episodes, 0.05, (0.5, 0.5)) == pytest.approx((1 - high, 1 - low))
    narrow = wilson(successes, episodes, True)
    assert low <= narrow.low + 1e-6 and high >= narrow.high - 1e-6, "what holds at any time is wider"


@cache
def sequence(successes: int, episodes: int) -> tuple[float, float]:
    found = confidence_sequence(successes, episodes)
    return found.low, found.high


@cache
def fixed(successes: int, episodes: int) -> tuple[float, float]:
    found = wilson(successes, episodes, True)
    return found.low, found.high


def missed(successes: NDArray[np.int64], episodes: NDArray[np.int64], rate: float) -> NDArray[np.bool_]:
    """Where the sequence at these counts does not hold the true rate."""
    bounds = np.array([sequence(*pair) for pair in zip(successes.tolist(), episodes.tolist(), strict=True)])
    return (bounds[:, 0] > rate) | (bounds[:, 1] < rate)


@pytest.mark.parametrize("rate", [0.5, 0.75, 0.92])
def test_the_sequence_covers_under_optional_stopping(rate: float) -> None:
    outcomes = np.random.default_rng(1).random((RUNS, LENGTH)) < rate
    counts = np.cumsum(outcomes, axis=1)
    # The registered test's own stopping rule.
    _, stop = decide_many(SequentialTest(0.75, 0.92, 0.05, 0.10, LENGTH), outcomes)
    assert missed(counts[np.arange(RUNS), stop - 1], stop, rate).mean() <= 0.05
    # The worst rule there is: stop at the first moment the interval misses, if it ever does.
    ever = np.zeros(RUNS, bool)
    for episode in range(LENGTH):
        ever |= missed(counts[:, episode], np.full(RUNS, episode + 1), rate)
    assert ever.mean() <= 0.05
    # The same rule breaks the interval for fixed numbers, which is why it is marked descriptive.
    wrong = np.zeros(RUNS, bool)
    for episode in range(9, LENGTH):
        bounds = np.array([fixed(count, episode + 1) for count in counts[:, episode].tolist()])
        wrong |= (bounds[:, 0] > rate) | (bounds[:, 1] < rate)
    assert wrong.mean() > 0.15
