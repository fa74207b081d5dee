"""Which samples a training step sees: a pure function of (seed, step, rank), so that a resumed run needs no state.

Resume is sample-exact when size, batch and seed are unchanged; the global batch does not depend on the rank count.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=2)
def _order(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(size)


def global_batch(size: int, batch: int, step: int, seed: int) -> NDArray[np.int64]:
    """Indices `(batch,)` into `size` samples at `step`: every sample once per epoch, each epoch in another order."""
    positions = np.arange(step * batch, (step + 1) * batch)
    indices = np.empty(batch, np.int64)
    for epoch in np.unique(positions // size):
        here = positions // size == epoch
        indices[here] = _order(size, seed, int(epoch))[positions[here] % size]
    return indices


def share(rank: int, ranks: int, batch: int) -> slice:
    """The part of a global batch that one rank computes."""
    each = batch // ranks
    return slice(rank * each, (rank + 1) * each)


def draws(seed: int, step: int) -> np.random.Generator:
    """Source of the augmentation of one step's global batch, whatever the rank count."""
    return np.random.default_rng([seed, 1, step])


def noise_seed(seed: int, step: int, rank: int, part: int = 0) -> int:
    """Seed of the noise that one rank draws on its device in one (micro) step."""
    return int(np.random.SeedSequence([seed, 2, step, rank, part]).generate_state(1, np.uint64)[0] >> 1)


def held_out_episodes(episodes: int, share_held_out: float, seed: int) -> frozenset[int]:
    """Episodes kept for validation: the stated share, at least one, and never all. None of a single episode."""
    if episodes < 2:
        return frozenset()
    count = min(max(1, round(episodes * share_held_out)), episodes - 1)
    return frozenset(np.random.default_rng([seed, 3]).permutation(episodes)[:count].tolist())
