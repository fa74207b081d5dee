"""Confidence intervals for success rates.

After early stopping a fixed-sample interval is biased by the stopping rule: it is then marked `descriptive`. Beside it
stands a confidence sequence, which holds at every number of episodes at once and therefore at any stopping time. The
verdict rests on neither: the sequential test decides the floor, and controls have bounds of their own.
"""

import math
from collections.abc import Callable

from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy
from scipy.stats import binomtest

from psi0.evaluate.schemas import Interval

CONFIDENCE = 0.95
_JEFFREYS = (0.5, 0.5)


def wilson(successes: int, episodes: int, descriptive: bool) -> Interval:
    """Two-sided 95 % Wilson interval; `(0, 1)` without episodes. Raises ValueError when successes > episodes."""
    if episodes == 0:
        return Interval(low=0.0, high=1.0, method="wilson", confidence=CONFIDENCE, descriptive=descriptive)
    bounds = binomtest(successes, episodes).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(
        low=round(float(bounds.low), 6),
        high=round(float(bounds.high), 6),
        method="wilson",
        confidence=CONFIDENCE,
        descriptive=descriptive,
    )


def confidence_sequence(successes: int, episodes: int) -> Interval:
    """The 95 % confidence sequence at this number of episodes: right whenever, and why ever, the episodes ended."""
    low, high = mixture_bounds(successes, episodes, 1 - CONFIDENCE, _JEFFREYS)
    return Interval(
        low=round(low, 6), high=round(high, 6), method="beta_binomial_mixture", confidence=CONFIDENCE, descriptive=False
    )


def mixture_bounds(successes: int, episodes: int, error: float, prior: tuple[float, float]) -> tuple[float, float]:
    """Bounds `(low, high)` that miss the true rate, at any number of episodes ever, with probability `error` at most.

    The beta-binomial mixture (Robbins, Annals of Mathematical Statistics 41, 1970, 1397-1409; Howard, Ramdas,
    McAuliffe and Sekhon, Annals of Statistics 49, 2021, 1055-1080): the likelihood of the outcomes averaged over
    Beta(a, b), divided by their likelihood at rate p, is a non-negative martingale of mean 1 when p is the true rate.
    By Ville's inequality it ever reaches 1 / error with probability `error` at most; the rates at which it has not
    are an interval, for its logarithm is convex in p.

    Args:
        prior: `(a, b)` of the mixing distribution. Any choice is valid; where it has its mass, bounds are tightest.
    """
    failures = episodes - successes
    a, b = prior
    mixed = float(betaln(a + successes, b + failures) - betaln(a, b))

    def excess(rate: float) -> float:
        return mixed - float(xlogy(successes, rate) + xlog1py(failures, -rate)) + math.log(error)

    observed = successes / episodes if episodes else 0.5
    low = _root(excess, 0.0, observed) if successes else 0.0
    high = _root(excess, observed, 1.0) if failures else 1.0
    return low, high


def upper_bound(successes: int, episodes: int, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper-Pearson upper bound of a success rate after a fixed number of episodes; 1 without any."""
    if episodes == 0:
        return 1.0
    test = binomtest(successes, episodes, alternative="less")
    return float(test.proportion_ci(confidence, method="exact").high)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    # At 0 and 1 the likelihood vanishes and the ratio is infinite: stay a hair inside.
    return float(brentq(function, max(low, 1e-15), min(high, 1 - 1e-15)))
