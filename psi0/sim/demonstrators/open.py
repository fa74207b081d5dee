"""Walk up to the cabinet, hook the right hand round the drawer's handle, pull it while walking back."""

import numpy as np
from numpy.typing import NDArray

from psi0.sim.demonstrators.phases import Walking
from psi0.sim.demonstrators.pick import PickDemonstrator, PickPlan
from psi0.sim.scene import rotation_z
from psi0.sim.tasks.open_drawer import OPEN
from psi0.sim.world import World

_FOLLOW_SPEED = 1.0
_PLAN = PickPlan(
    turns=0.0,
    stance=(-0.335, 0.09),
    nearest_to_table=-0.18,
    hand_yaw=1.15,
    raised=(0.14, -0.34, 0.95),
    grasp_rise=0.0,
    raise_speed=0.5,
    reach_speed=0.30,
    stand_seconds=0.5,
    grip_seconds=0.8,
)
_BEFORE_GRASP, _IN_HAND = np.array([0.005, -0.13, 0.0]), np.array([-0.01, 0.02, 0.0])
_BACK_SPEED, _ENOUGH = -0.5, OPEN + 0.03
_WITH_THE_ARM, _ARM_SPEED = 0.08, 0.10
_PATIENCE, _PROGRESS = 3.0, 0.03
_LET_GO_SECONDS, _RETREAT_SECONDS = 0.5, 1.6


class OpenDemonstrator(PickDemonstrator):
    """Phases of the pick, then `pull`; when the drawer does not come along, `release` and begin anew."""

    def __init__(self, world: World) -> None:
        super().__init__(world, _PLAN)

    def reset(self, seed: int) -> None:
        """Begin anew, in the style of this seed."""
        super().reset(seed)
        self._hold_from = np.zeros(3)

    def misjudge(self, random: np.random.Generator) -> None:
        """It begins anew by itself when the drawer stays shut; nothing is staged."""

    def _object(self) -> NDArray[np.float64]:
        """The handle's middle `(3,)` [m]."""
        return self._frame.point(np.array(self._world.task.key_points(self._world.view)[0]))

    def _grasp_point(self) -> NDArray[np.float64]:
        return self._object() + self._frame.turned(_IN_HAND)

    def _point_before_grasp(self) -> NDArray[np.float64]:
        return self._object() + self._frame.turned(_BEFORE_GRASP)

    def _opened(self) -> float:
        return self._world.view.slid("drawer")

    def _begin_to_pull(self) -> None:
        pelvis = np.array([*self._world.data.qpos[:2], 0.0])
        self._hold_from = rotation_z(-self._world.heading) @ (self._hand.point - pelvis)

    def _grip(self) -> Walking:
        self._close()
        self._bring(self._grasp_point(), self._plan.grasp_speed)
        if self._seconds() > self._plan.grip_seconds:
            self._begin_to_pull()
            self._enter("pull")
        return np.zeros(3)

    def _pull(self) -> Walking:
        """Keep the hand before the body, a little nearer than it was, and walk back."""
        pelvis = np.array([*self._world.data.qpos[:2], 0.0])
        drawn = np.array([min(_WITH_THE_ARM, _ARM_SPEED * self._seconds()), 0.0, 0.0])
        self._bring(pelvis + rotation_z(self._world.heading) @ (self._hold_from - drawn), _FOLLOW_SPEED)
        if self._opened() > _ENOUGH:
            return np.zeros(3)
        if self._seconds() > _PATIENCE and self._opened() < _PROGRESS * (self._seconds() - 1.0):
            self._enter("release")
        ahead, turn = self._error()
        return np.array([_BACK_SPEED, np.clip(2.0 * ahead[1], -0.3, 0.3), np.clip(1.6 * turn, -0.5, 0.5)])

    def _release(self) -> Walking:
        """Open the hand, then take it and the body back."""
        self._open()
        beside = self._frame.turned(np.array([0.20, -0.38, 0.95]))
        if self._seconds() < _LET_GO_SECONDS:
            return np.zeros(3)
        self._bring(np.array([*self._world.data.qpos[:2], 0.0]) + beside, self._plan.reach_speed)
        if self._seconds() > _RETREAT_SECONDS:
            self._enter("walk")
        return np.array([-0.4, 0.0, 0.0])
