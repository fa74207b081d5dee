"""The test of a control: does it fail as it must?

A control holds when an upper 95 % confidence bound of its success rate lies below its ceiling. The bound spends its
error in two parts, so that a control that is clearly failing may stop early and one that is not still gets its full
count: 1 % on a bound that holds at every number of episodes at once, 4 % on the exact one after the last. A control
whose ceiling can no longer be shown stops early, too.

The test counts failures, for those are what a control is asked for: `accept` means that it fails as it must.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from psi0.evaluate.intervals import mixture_bounds, upper_bound

ANYTIME_ERROR = 0.01
FINAL_ERROR = 0.04
_PRIOR = (0.5, 5.0)
"""Mixing distribution of the early bound: most of its mass lies where controls should be, below 20 %."""


@dataclass(frozen=True)
class ControlTest:
    """Is the success rate of a control below `ceiling`? At most `n_max` episodes; a `FloorTest` of its failures."""

    ceiling: float
    n_max: int

    @property
    def most_successes(self) -> int:
        """Most successes among `n_max` episodes with which the control holds, or -1: too few episodes to show it."""
        return int(_allowed_successes(self)[-1])

    def boundaries(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Failures that hold and failures that break the ceiling, each `(n_max,)`; see `FloorTest`."""
        return _control_boundaries(self)


def control_bound(successes: int, episodes: int, planned: int) -> float:
    """Upper 95 % confidence bound of a control's success rate, early stopping allowed for.

    Args:
        episodes: run so far, at most `planned`.
        planned: most episodes; with all of them run the exact bound counts as well.
    """
    early = mixture_bounds(successes, episodes, ANYTIME_ERROR, _PRIOR)[1]
    return early if episodes < planned else min(early, upper_bound(successes, episodes, 1 - FINAL_ERROR))


@cache
def _control_boundaries(test: ControlTest) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    allowed, episodes = _allowed_successes(test), np.arange(1, test.n_max + 1)
    hold_at = np.where(allowed >= 0, episodes - allowed, episodes + 1)
    break_at = np.maximum(episodes - 1 - max(0, test.most_successes), -1)
    for bound in (hold_at, break_at):
        bound.flags.writeable = False
    return hold_at, break_at


@cache
def _allowed_successes(test: ControlTest) -> NDArray[np.int64]:
    """Most successes with which the control holds after 1 to `n_max` episodes, -1 where it does with none."""
    allowed, count = np.empty(test.n_max, np.int64), -1
    for episodes in range(1, test.n_max + 1):
        while count >= 0 and control_bound(count, episodes, test.n_max) >= test.ceiling:
            count -= 1
        while count < episodes and control_bound(count + 1, episodes, test.n_max) < test.ceiling:
            count += 1
        allowed[episodes - 1] = count
    return allowed
