"""Stand, bring the left hand beside an object, keep it there for a moment, take it back."""

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.constants import NOMINAL_HEIGHT, OPEN_LEFT, OPEN_RIGHT, READY_ARMS
from psi0.sim.demonstrators.motion import Hand, action, approach
from psi0.sim.demonstrators.phases import Phased, Walking
from psi0.sim.scene import rotation_z
from psi0.sim.world import World

_ARM_SPEED, _REACH_SPEED = 1.5, 0.3
_BESIDE = np.array([-0.05, 0.10, 0.02])
_ABOVE_EDGE = np.array([0.14, 0.34, 0.96])
_STAY_SECONDS = 0.5
_HAND_YAW = -0.25
_STANDING: Walking = np.zeros(3)


class TouchDemonstrator(Phased):
    """Phases `ready, raise, reach, stay, lower, retreat, done`; the feet do not move."""

    privileged = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._hand = Hand(world.robot_folder, "left")
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin anew; the motion itself has no randomness."""
        self._begin("ready")
        self._arms = self._world.task.start_arms.copy()

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action `(1, 36)`."""
        velocity, target_yaw = self._do_phase()
        hands = np.concatenate([OPEN_LEFT, OPEN_RIGHT])
        return action(hands, self._arms, NOMINAL_HEIGHT, velocity, target_yaw)[None]

    def _bring(self, goal: NDArray[np.float64], then: str) -> Walking:
        left = self._hand.move(self._world, goal, rotation_z(_HAND_YAW), _REACH_SPEED)
        self._arms = np.concatenate([self._hand.joints, self._arms[7:]])
        if left < 0.01:
            self._enter(then)
        return _STANDING

    def _get_ready(self, then: str) -> Walking:
        self._arms = approach(self._arms, READY_ARMS, _ARM_SPEED / self._world.policy_hz)
        if np.abs(self._arms - READY_ARMS).max() < 0.01:
            self._hand.start_from(self._world, self._arms[:7])
            self._enter(then)
        return _STANDING

    def _raised(self) -> NDArray[np.float64]:
        return np.array([*self._world.data.qpos[:2], 0.0]) + _ABOVE_EDGE

    # Phases

    def _ready(self) -> Walking:
        return self._get_ready("raise")

    def _raise(self) -> Walking:
        return self._bring(self._raised(), "reach")

    def _reach(self) -> Walking:
        world = self._world
        return self._bring(world.view.position(world.task.object_name) + _BESIDE, "stay")

    def _stay(self) -> Walking:
        if self._seconds() > _STAY_SECONDS:
            self._enter("lower")
        return _STANDING

    def _lower(self) -> Walking:
        return self._bring(self._raised(), "retreat")

    def _retreat(self) -> Walking:
        return self._get_ready("done")

    def _done(self) -> Walking:
        return _STANDING
