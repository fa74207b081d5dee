"""Disturbed execution, clean labels (DART): the demonstrator shows how to recover from what a policy does wrong."""

import numpy as np
from numpy.typing import NDArray

from psi0.robot.layout import ACTION_SIZE, ActionPart

_MEMORY_SECONDS, _MEMORY = 0.1, 0.8
_LARGEST_SCALE = 1.4
_STANDING = 0.01


class Disturbance:
    """Ornstein-Uhlenbeck noise on executed actions, its strength drawn per episode.

    Standard deviations: arms 0.04 rad, right hand 0.05 rad, walking 0.12 m/s and 0.15 rad/s. A robot told to stand is
    not nudged, and the left hand, which most tasks leave idle, does as it is told.
    """

    def __init__(self, policy_hz: int, scale: float, seed: int) -> None:
        self._random = np.random.default_rng([seed, 777])
        self._scale = scale * self._random.uniform(0.0, _LARGEST_SCALE)
        self._memory = _MEMORY ** (1.0 / (policy_hz * _MEMORY_SECONDS))
        self._deviation = np.zeros(ACTION_SIZE)
        self._deviation[ActionPart.RIGHT_HAND] = 0.05
        self._deviation[ActionPart.ARMS] = 0.04
        self._deviation[ActionPart.VELOCITY] = 0.12, 0.12, 0.15
        self._noise = np.zeros(ACTION_SIZE)

    def disturb(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action `(36,)` that is executed instead of `action`."""
        fresh = np.sqrt(1 - self._memory**2) * self._deviation * self._scale
        self._noise = self._memory * self._noise + fresh * self._random.standard_normal(ACTION_SIZE)
        executed = action + self._noise
        if np.linalg.norm(action[ActionPart.VELOCITY]) < _STANDING:
            executed[ActionPart.VELOCITY] = 0.0
        return executed.astype(np.float32)
