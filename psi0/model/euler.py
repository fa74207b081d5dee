"""The Euler sampler of a flow-matching policy, with a clean action prefix. NumPy only; the network is a callable.

Noise level 1 is pure noise, 0 is the action (the published convention); the velocity is noise minus action.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Velocity = Callable[[NDArray[np.float32], int, NDArray[np.float32]], NDArray[np.float32]]
"""(noisy actions `(1, horizon, dims)`, index into the schedule, late `(1, horizon)`) -> velocity of the actions' shape.

Late is 1 where an action has the noise level at that index, 0 where it is clean (level 0).
"""
Schedule = Literal["uniform", "published"]


def schedule(steps: int, kind: Schedule = "uniform") -> NDArray[np.float32]:
    """Noise levels `(steps + 1,)` from 1 to 0.

    `published` is diffusers' FlowMatchEulerDiscreteScheduler at shift 1, which spends its last step on the way from
    0.001 to 0; `uniform` spreads all steps evenly and needs one step less for the same resolution.
    """
    if kind == "uniform":
        return np.linspace(1.0, 0.0, steps + 1, dtype=np.float32)
    return np.append(np.linspace(1.0, 0.001, steps), 0.0).astype(np.float32)


def sample(
    velocity: Velocity,
    noise: NDArray[np.float32],
    levels: NDArray[np.float32],
    prefix: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Integrate from noise to actions `(1, horizon, dims)`.

    Args:
        velocity: the network.
        noise: float32 `(1, horizon, dims)`.
        levels: noise levels, `schedule(steps)`.
        prefix: normalised actions `(n, dims)`, n at most the horizon, that will be executed whatever comes out: they
            stand in the first rows, clean (level 0), at every step and in the result.
    """
    actions = noise.astype(np.float32, copy=True)
    clean = 0 if prefix is None else min(len(prefix), noise.shape[1])
    late = np.ones(noise.shape[:2], np.float32)
    late[:, :clean] = 0.0
    for step, change in enumerate(np.diff(levels)):
        if prefix is not None:
            actions[0, :clean] = prefix[:clean]
        actions = actions + change * velocity(actions, step, late)
    if prefix is not None:
        actions[0, :clean] = prefix[:clean]
    return actions
