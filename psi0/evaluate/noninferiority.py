"""Exact tests on paired outcomes: is a policy not worse than another by more than a margin, or better?

Both policies ran the same seeds. `candidate_only` (b) and `champion_only` (c) count the seeds on which just one of
them succeeded; with n seeds in all they are trinomial, and the difference of the success rates is estimated by
(b - c) / n.
"""

from collections.abc import Mapping
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import binom

_GRID = 400
_SAME = 1e-9
_AT_ONCE = 4_000_000


def p_superior(candidate_only: int, champion_only: int) -> float:
    """Exact one-sided McNemar test that the candidate is better: chance of so many wins if both were equally good."""
    return float(binom.sf(candidate_only - 1, candidate_only + champion_only, 0.5))


def p_not_inferior(candidate_only: int, champion_only: int, episodes: int, margin: float) -> float:
    """P-value against "the candidate's success rate is lower by `margin` or more".

    The exact unconditional test for matched pairs: outcomes are ordered by the score statistic (Tango 1998), and the
    p-value is the largest probability, over every share of champion-only seeds that fits such a candidate, of an
    outcome as favourable as the one observed (Sidik 2003). With no margin left (0) it is the test of a higher rate.
    Every margin orders the outcomes anew: among those that show nothing, a wider one can give a slightly larger value.

    Args:
        candidate_only: seeds on which only the candidate succeeded.
        champion_only: seeds on which only the champion succeeded.
        episodes: seeds in all, at least one.
        margin: tolerated deficit of the success rate, in [0, 1).

    Raises:
        ValueError: counts that do not fit each other.
    """
    if min(candidate_only, champion_only) < 0 or not 0 < episodes >= candidate_only + champion_only:
        raise ValueError(f"{candidate_only} and {champion_only} do not fit {episodes} paired episodes")
    wins, losses = np.meshgrid(np.arange(episodes + 1), np.arange(episodes + 1), indexing="ij")
    possible = wins + losses <= episodes
    wins, losses = wins[possible], losses[possible]
    scores = _scores(wins, losses, episodes, margin)
    observed = scores[(wins == candidate_only) & (losses == champion_only)]
    favourable = scores >= observed - _SAME
    wins, losses = wins[favourable], losses[favourable]
    loss_shares = np.linspace(margin, (1 + margin) / 2, _GRID)
    parts = np.array_split(loss_shares, -(-_GRID * len(wins) // _AT_ONCE))
    worst = max(_probabilities(wins, losses, episodes, margin, shares).max() for shares in parts)
    return min(1.0, float(worst))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values of tests that are decided together: compare each with the family's error rate."""
    adjusted: dict[str, float] = {}
    largest, left = 0.0, len(p_values)
    for name in sorted(p_values, key=lambda name: (p_values[name], name)):
        largest = max(largest, min(1.0, left * p_values[name]))
        adjusted[name] = largest
        left -= 1
    return adjusted


def _scores(wins: NDArray[np.int64], losses: NDArray[np.int64], episodes: int, margin: float) -> NDArray[np.float64]:
    """Tango's score statistic of each outcome: deficit beyond the margin over its standard error under the margin."""
    linear = wins + losses + (2 * episodes - wins + losses) * margin
    constant = losses * margin * (1 + margin)
    share = (linear + np.sqrt(np.maximum(0.0, linear**2 - 8 * episodes * constant))) / (4 * episodes)
    variance = episodes * np.maximum(0.0, 2 * share - margin * (1 + margin))
    excess = wins - losses + episodes * margin
    return np.where(variance > 0, excess / np.sqrt(np.where(variance > 0, variance, 1.0)), np.sign(excess) * sqrt(1e9))


def _probabilities(
    wins: NDArray[np.int64], losses: NDArray[np.int64], episodes: int, margin: float, loss_shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability of any of these outcomes, per share of champion-only seeds of a candidate that is at the margin."""
    ties = episodes - wins - losses
    ways = gammaln(episodes + 1) - gammaln(wins + 1) - gammaln(losses + 1) - gammaln(ties + 1)
    share = loss_shares[:, None]
    tie_share = np.maximum(0.0, 1 + margin - 2 * share)
    logarithms = ways + xlogy(wins, share - margin) + xlogy(losses, share) + xlogy(ties, tie_share)
    return np.exp(logarithms).sum(axis=1)
