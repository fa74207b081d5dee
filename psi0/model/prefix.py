"""Real-time chunking at run time: which actions of the last chunk the next one must go on from. NumPy only."""

import numpy as np
from numpy.typing import NDArray

from psi0.model.normalizer import Scale
from psi0.policy import Observation


def clean_prefix(observation: Observation, max_delay: int, scale: Scale) -> NDArray[np.float32] | None:
    """Normalised actions `(n, 36)` that will be executed while the answer is computed, or None.

    That are rows `[0:delay]` of the last chunk's rest. Training has seen prefixes of at most `max_delay - 1` steps: a
    later answer gets that many clean rows and goes on from there, worse than one in time but never refused. A rest
    that is shorter than the delay, absent or not finite, shortens the prefix likewise.
    """
    previous = observation.previous_chunk
    if previous is None:
        return None
    usable = min(max(observation.delay, 0), max_delay - 1, len(previous))
    if usable <= 0:
        return None
    promised = previous[:usable]
    return scale.normalize(promised) if np.isfinite(promised).all() else None
