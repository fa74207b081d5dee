"""Pieces of motion that demonstrators are made of: walking to a spot, moving a hand, closing it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0.robot.angles import wrapped
from psi0.robot.kinematics import ORIENTATION_COST, ArmKinematics
from psi0.robot.layout import ACTION_SIZE, ActionPart
from psi0.robot.model import TORSO
from psi0.sim.scene import rotation_z
from psi0.sim.world import World

_UPRIGHT = np.zeros(3)
_FASTEST_JOINT = 3.0
"""Largest commanded arm-joint speed [rad/s]."""
_LEAST_SPEED, _LEAST_TURN = 0.3, 0.3
"""It walks at least so fast or turns at least so fast, or it stands [m/s, rad/s]: well above what a standing System-0
sets off at, so that a policy in doubt between the two ends on one side."""


def approach(value: NDArray[np.float64], goal: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Move each entry of `value` towards `goal` by at most `most`."""
    return value + np.clip(goal - value, -most, most)


def slide(point: NDArray[np.float64], goal: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Move a point towards `goal` along the straight line by at most `most`."""
    way = goal - point
    distance = float(np.linalg.norm(way))
    return goal.copy() if distance <= most else point + way * (most / distance)


def action(
    hands: NDArray[np.float64],
    arms: NDArray[np.float64],
    height: float,
    velocity: NDArray[np.float64],
    target_yaw: float = 0.0,
    torso: NDArray[np.float64] = _UPRIGHT,
) -> NDArray[np.float32]:
    """An action `(36,)`: `hands` `(14,)`, `arms` `(14,)`, `velocity` `(3,)`, `target_yaw` from the
    start of the episode [rad], `torso` roll, pitch, yaw `(3,)` [rad]."""
    result = np.zeros(ACTION_SIZE)
    result[ActionPart.TORSO] = torso
    result[ActionPart.HANDS], result[ActionPart.ARMS] = hands, arms
    result[ActionPart.HEIGHT], result[ActionPart.VELOCITY] = height, velocity
    result[ActionPart.TARGET_YAW] = target_yaw
    return result.astype(np.float32)


def error_to(world: World, spot: NDArray[np.float64], yaw: float = 0.0) -> tuple[NDArray[np.float64], float]:
    """Where a spot `(2,)` lies from the pelvis along its heading `(2,)` [m], and the turn to `yaw` [rad]."""
    ahead = rotation_z(-world.heading)[:2, :2] @ (spot - world.data.qpos[:2])
    return ahead, wrapped(yaw - world.heading)


def walking_velocity(ahead: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Velocity command `(3,)` that closes a position and heading error, never so small that System-0 would stand.

    System-0 hardly walks backwards and sideways at small commands, so those are asked for with more.
    """
    backwards_extra = -0.1 if ahead[0] < -0.03 else 0.0
    velocity = np.array(
        [
            np.clip(1.6 * ahead[0] + backwards_extra, -0.6, 0.4),
            np.clip(2.2 * ahead[1], -0.6, 0.6),
            np.clip(1.6 * turn, -0.6, 0.6),
        ]
    )
    return no_slower(velocity)


def no_slower(velocity: NDArray[np.float64]) -> NDArray[np.float64]:
    """A velocity command `(3,)`, scaled up where System-0 would stand; none stays none."""
    share = max(np.hypot(velocity[0], velocity[1]) / _LEAST_SPEED, abs(velocity[2]) / _LEAST_TURN)
    return velocity / share if 0.0 < share < 1.0 else velocity


@dataclass(frozen=True)
class Frame:
    """Where the table's frame is taken to lie in the world: origin x, y [m] and yaw [rad]."""

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0

    def turned(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """A direction `(3,)` of the frame, in the world."""
        return rotation_z(self.yaw) @ direction

    def point(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """A point `(3,)` of the frame, in the world [m]."""
        return np.array([self.x, self.y, 0.0]) + self.turned(local)

    def local(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """A point `(3,)` of the world, in the frame [m]."""
        return rotation_z(-self.yaw) @ (point - np.array([self.x, self.y, 0.0]))


class Hand:
    """One arm whose grasp point is moved in the world; the torso's measured pose is taken into account each step."""

    def __init__(self, robot_folder: Path, side: str, orientation_cost: float = ORIENTATION_COST) -> None:
        self._kinematics = ArmKinematics(robot_folder, side, orientation_cost)
        self.joints = self._kinematics.neutral.copy()
        self.point = np.zeros(3)
        self.miss = 0.0
        """Distance between where the hand should be and where its joints can bring it [m]."""

    @staticmethod
    def _torso(world: World) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        torso = world.data.body(TORSO)
        return torso.xpos, torso.xmat.reshape(3, 3)

    def start_from(self, world: World, joints: NDArray[np.float64]) -> None:
        """Take over an arm whose joints are commanded to `joints` `(7,)` [rad]."""
        self.joints = joints.copy()
        self.point = self.where(world, joints)

    def where(self, world: World, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the grasp point `(3,)` is in the world when the arm's joints are at `joints` `(7,)` [m]."""
        origin, axes = self._torso(world)
        return origin + axes @ self._kinematics.forward(joints)[0]

    def joints_at(self, world: World, point: NDArray[np.float64], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joints `(7,)` that have the grasp point at `point` `(3,)` while the torso is as it is now [rad]."""
        origin, axes = self._torso(world)
        return self._kinematics.solve(axes.T @ (point - origin), axes.T @ rotation, self.joints, iterations=20)[0]

    def move(self, world: World, goal: NDArray[np.float64], rotation: NDArray[np.float64], speed: float) -> float:
        """Move the grasp point towards `goal` at `speed` [m/s] for one control step; return the distance left [m]."""
        self.point = slide(self.point, goal, speed / world.policy_hz)
        origin, axes = self._torso(world)
        wanted, self.miss = self._kinematics.solve(axes.T @ (self.point - origin), axes.T @ rotation, self.joints)
        self.joints = approach(self.joints, wanted, _FASTEST_JOINT / world.policy_hz)
        return float(np.linalg.norm(self.point - goal))
