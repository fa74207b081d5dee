"""What a test with integer boundaries does in the long run, computed exactly rather than simulated.

The count of successes is a Markov chain. Its distribution over the counts that have not decided is carried from
episode to episode; what reaches a boundary leaves it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Characteristics:
    """How a test ends for policies of one success rate.

    Attributes:
        accepted: probability of acceptance.
        rejected: probability of rejection.
        mean_episodes: episodes consumed on average.
        p95_episodes: episodes that suffice with a probability of 95 %.
    """

    accepted: float
    rejected: float
    mean_episodes: float
    p95_episodes: int


def characteristics(accept_at: NDArray[np.int64], reject_at: NDArray[np.int64], rate: float) -> Characteristics:
    """Follow every path at once.

    Args:
        accept_at: `(n_max,)`, entry n-1 the fewest successes that accept after n episodes.
        reject_at: `(n_max,)`, the most successes that reject; negative where none does.
        rate: success rate of the policy; episodes are independent.
    """
    n_max = len(accept_at)
    alive = np.zeros(n_max + 2)
    alive[0] = 1.0
    accepted, rejected, ends = 0.0, 0.0, np.zeros(n_max)
    for episode, (accept, reject) in enumerate(zip(accept_at, reject_at, strict=True)):
        alive[1:] = alive[1:] * (1 - rate) + alive[:-1] * rate
        alive[0] *= 1 - rate
        up, down = float(alive[accept:].sum()), float(alive[: reject + 1].sum())
        alive[accept:] = 0.0
        alive[: reject + 1] = 0.0
        accepted, rejected, ends[episode] = accepted + up, rejected + down, up + down
    ends[-1] += alive.sum()
    return Characteristics(
        accepted=accepted,
        rejected=rejected,
        mean_episodes=float(ends @ np.arange(1, n_max + 1)),
        p95_episodes=int(np.searchsorted(np.cumsum(ends), 0.95 - 1e-12)) + 1,
    )
