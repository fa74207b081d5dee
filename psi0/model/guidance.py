"""Test-time real-time chunking: the sampler is pulled towards the actions that were promised before. NumPy only.

Black, Galliker, Levine, "Real-Time Execution of Action Chunking Flow Policies" (arXiv 2506.07339): at every Euler step
the clean chunk is estimated, its distance to the promised one is weighted by a soft mask and taken back through the
network (a vector-Jacobian product), and the pull is clipped at beta. The paper's time runs from noise 0 to action 1;
here the noise level runs from 1 to 0, so its time is 1 minus ours and its velocity is minus ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psi0.model.normalizer import Scale
from psi0.policy import Observation


@dataclass(frozen=True)
class Promise:
    """What the last chunk promised.

    Attributes:
        target: normalised actions `(1, horizon, dims)`, 0 where nothing was promised.
        weight: soft mask `(1, horizon, 1)` in [0, 1].
    """

    target: NDArray[np.float32]
    weight: NDArray[np.float32]


Field = Callable[[NDArray[np.float32], int, Promise], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""(noisy actions `(1, horizon, dims)`, index into the schedule, promise) -> velocity and pull, both like actions."""


def soft_mask(delay: int, rest: int, horizon: int) -> NDArray[np.float32]:
    """Weights `(horizon,)`: 1 for the `delay` actions that will be executed, then an exponential decay, 0 from `rest`.

    The paper's c (e^c - 1) / (e - 1), c falling from 1 at row `delay - 1` to 0 at row `rest`; `delay <= rest`.
    """
    rows = np.arange(horizon)
    left = (rest - rows) / (rest - delay + 1)
    decay = left * np.expm1(left) / np.expm1(1.0)
    return np.where(rows < delay, 1.0, np.where(rows < rest, decay, 0.0)).astype(np.float32)


def promise(observation: Observation, horizon: int, scale: Scale) -> Promise | None:
    """What the next chunk should go on from, or None: no last chunk, or one that is not finite.

    Any delay is taken: one that reaches past the rest of the last chunk is cut there, and the robot holds the rest's
    last action until the answer comes.
    """
    previous = observation.previous_chunk
    if previous is None or not len(previous) or not np.isfinite(previous).all():
        return None
    rest = min(len(previous), horizon)
    delay = min(max(observation.delay, 0), rest)
    target = np.zeros((1, horizon, previous.shape[1]), np.float32)
    target[0, :rest] = scale.normalize(previous[:rest])
    return Promise(target, soft_mask(delay, rest, horizon)[None, :, None])


def strength(level: float, largest: float) -> float:
    """Weight of the pull at a noise level in (0, 1]: min(beta, (1 - t) / (t r^2)), the paper's t being `1 - level`.

    r^2 = (1 - t)^2 / (t^2 + (1 - t)^2), the variance of the clean action under a standard normal prior.
    """
    time = 1.0 - level
    free = level * time
    return largest if free <= 0 else min(largest, (time**2 + level**2) / free)


def sample_guided(
    field: Field, noise: NDArray[np.float32], levels: NDArray[np.float32], promised: Promise, largest: float
) -> NDArray[np.float32]:
    """Integrate from noise to actions `(1, horizon, dims)`.

    Args:
        field: the network and its pull.
        noise: float32 `(1, horizon, dims)`.
        levels: noise levels, `psi0.model.euler.schedule(steps)`.
        promised: what to go on from.
        largest: beta, the clip of the guidance weight; 0 gives what `psi0.model.euler.sample` gives.
    """
    actions = noise.astype(np.float32, copy=True)
    for step, change in enumerate(np.diff(levels)):
        velocity, pull = field(actions, step, promised)
        guided = velocity - np.float32(strength(float(levels[step]), largest)) * pull
        actions = actions + change * guided
    return actions
