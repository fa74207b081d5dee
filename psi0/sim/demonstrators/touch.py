"""Stand, bring the left hand beside an object, keep it there for a moment, take it back."""

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.constants import NOMINAL_HEIGHT, OPEN_LEFT, OPEN_RIGHT, READY_ARMS
from psi0.sim.demonstrators.motion import Hand, action, approach
from psi0.sim.scene import rotation_z
from psi0.sim.world import World

_ARM_SPEED, _REACH_SPEED = 1.5, 0.3
_BESIDE = np.array([-0.05, 0.10, 0.02])
_ABOVE_EDGE = np.array([0.14, 0.34, 0.96])
_STAY_SECONDS = 0.5
_HAND_YAW = -0.25


class TouchDemonstrator:
    """Phases `ready, raise, reach, stay, lower, retreat, done`; the feet do not move."""

    privileged = True

    def __init__(self, world: World) -> None:
        self._world, self._hand = world, Hand(world.robot_folder, "left")
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin anew; the motion itself has no randomness."""
        self.phase, self._since, self._arms = "ready", 0, self._world.task.start_arms.copy()

    def _enter(self, phase: str) -> None:
        self.phase, self._since = phase, self._world.steps

    def _bring(self, goal: NDArray[np.float64]) -> bool:
        left = self._hand.move(self._world, goal, rotation_z(_HAND_YAW), _REACH_SPEED)
        self._arms = np.concatenate([self._hand.joints, self._arms[7:]])
        return left < 0.01

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action `(1, 36)`."""
        world = self._world
        beside = world.view.position(world.task.object_name) + _BESIDE
        raised = np.array([*world.data.qpos[:2], 0.0]) + _ABOVE_EDGE
        if self.phase in ("ready", "retreat"):
            self._arms = approach(self._arms, READY_ARMS, _ARM_SPEED / world.policy_hz)
            if np.abs(self._arms - READY_ARMS).max() < 0.01:
                self._hand.start_from(world, self._arms[:7])
                self._enter("raise" if self.phase == "ready" else "done")
        elif self.phase == "raise" and self._bring(raised):
            self._enter("reach")
        elif self.phase == "reach" and self._bring(beside):
            self._enter("stay")
        elif self.phase == "stay" and world.steps - self._since > _STAY_SECONDS * world.policy_hz:
            self._enter("lower")
        elif self.phase == "lower" and self._bring(raised):
            self._enter("retreat")
        hands = np.concatenate([OPEN_LEFT, OPEN_RIGHT])
        return action(hands, self._arms, NOMINAL_HEIGHT, np.zeros(3))[None]
