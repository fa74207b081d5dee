"""What demonstrators have in common: phases that follow one another on what has been reached."""

import numpy as np
from numpy.typing import NDArray

from psi0.robot.angles import wrapped
from psi0.robot.constants import STANDING_DEAD_ZONE
from psi0.sim.demonstrators.astray import Astray
from psi0.sim.demonstrators.motion import walking_velocity
from psi0.sim.world import World

STEADY_SECONDS = 0.2
_THERE, _NEARER = np.array([0.05, 0.06, 0.12]), 0.5
"""It stops so near to where it means to stand, ahead, aside and in its turn [m, m, rad]; nearer once it could not reach
from there, else it would not move."""

Walking = NDArray[np.float64]
"""Velocity command `(3,)` [m/s, m/s, rad/s]."""


class Phased:
    """Keeps the current phase, the time in it, for how long a condition has held, and a wrong place it walks to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begin("walk")

    def misjudge(self, random: np.random.Generator) -> None:
        """Make a mistake first, where the motion knows how to go on after one; here it does not."""

    @property
    def misjudging(self) -> bool:
        """Whether the mistake is still being made."""
        return self._astray is not None

    def _begin(self, phase: str) -> None:
        """Enter the first phase of an episode."""
        self._target_yaw = 0.0
        self._astray: Astray | None = None
        self._nearer = 1.0
        self._enter(phase)

    def _arrive(self, phase: str) -> None:
        """Enter the phase that follows a walk; where that led astray, walk on to the right place first."""
        self._enter(phase if self._astray is None else self.phase)
        self._astray = None

    def _walk_to(self, ahead: NDArray[np.float64], turn: float, next_phase: str) -> Walking:
        """Velocity `(3,)` on the way; once there it stands and goes on."""
        there = bool((np.abs([*ahead, turn]) < self._nearer * _THERE).all())
        if there:
            self._arrive(next_phase)
        return np.zeros(3) if there else walking_velocity(ahead, turn)

    def _could_not_reach(self) -> None:
        """Stop nearer from now on."""
        self._nearer = _NEARER

    def _enter(self, phase: str) -> None:
        self.phase, self._since, self._steady = phase, self._world.steps, 0.0

    def _seconds(self) -> float:
        return (self._world.steps - self._since) / self._world.policy_hz

    def _held(self, good: bool) -> bool:
        """Whether a condition has held for a moment; call once per step."""
        self._steady = self._steady + 1 / self._world.policy_hz if good else 0.0
        return self._steady > STEADY_SECONDS - 1e-6

    def _do_phase(self) -> tuple[Walking, float]:
        """Velocity `(3,)` and target yaw [rad] by the method named after the current phase.

        The target yaw moves along with the yaw rate, as who drives a robot moves it: a policy does not see how far the
        robot has turned since the episode began, but sees how far it has yet to turn, and what it said last.
        """
        velocity: Walking = getattr(self, f"_{self.phase}")()
        if np.abs(velocity).max() >= STANDING_DEAD_ZONE:
            self._target_yaw = wrapped(self._target_yaw + velocity[2] / self._world.policy_hz)
        return velocity, self._target_yaw
