"""Inverse kinematics of one arm in the torso's frame, by differential steps of the `mink` library."""

from pathlib import Path

import mink
import numpy as np
from numpy.typing import NDArray

from psi0.robot.constants import DEFAULT_ARMS, GRASP_POINT
from psi0.robot.layout import LEFT_ARM_JOINTS, RIGHT_ARM_JOINTS
from psi0.robot.model import TORSO, read_model
from psi0.robot.physics import mujoco

_STEP_SECONDS = 0.1
ORIENTATION_COST = 0.3
"""What an error of one radian counts as, beside an error in position [m]."""
_POSTURE_COST = 0.005
_DAMPING = 1e-4
_LIMIT_MARGIN = 0.03
_GRASP_SITE = "grasp"


def _arm_only(folder: Path, side: str, joints: tuple[str, ...]) -> mujoco.MjModel:
    """The robot with everything but one arm's seven joints frozen: seven unknowns instead of 49."""
    spec = read_model(folder)
    for element in [*spec.keys, *spec.actuators, *spec.sensors, *spec.geoms, *spec.meshes]:
        spec.delete(element)
    for joint in list(spec.joints):
        if joint.name not in joints:
            spec.delete(joint)
        else:
            joint.range = [joint.range[0] + _LIMIT_MARGIN, joint.range[1] - _LIMIT_MARGIN]
    spec.body(f"{side}_wrist_yaw_link").add_site(name=_GRASP_SITE, pos=list(GRASP_POINT[side]))
    return spec.compile()


class ArmKinematics:
    """Where the grasp point of one hand is, and the joint angles that bring it somewhere.

    All poses are in the frame of `torso_link`, so that neither the legs nor the waist matter. One `solve` takes
    about 0.8 ms (measured, four iterations). Where not both can be reached, a smaller `orientation_cost` [m/rad] turns
    the hand otherwise and misses the position by less.
    """

    def __init__(self, robot_folder: Path, side: str, orientation_cost: float = ORIENTATION_COST) -> None:
        self.joints = LEFT_ARM_JOINTS if side == "left" else RIGHT_ARM_JOINTS
        self.neutral = DEFAULT_ARMS[:7] if side == "left" else DEFAULT_ARMS[7:]
        model = _arm_only(robot_folder, side, self.joints)
        self._configuration = mink.Configuration(model)
        self._torso = model.body(TORSO).id
        self._site = model.site(_GRASP_SITE).id
        self._reach = mink.FrameTask(
            _GRASP_SITE, "site", position_cost=1.0, orientation_cost=orientation_cost, lm_damping=1e-3
        )
        self._posture = mink.PostureTask(model, cost=_POSTURE_COST)
        self._posture.set_target(self._rest(side))
        self._limits = [mink.ConfigurationLimit(model)]

    @staticmethod
    def _rest(side: str) -> NDArray[np.float64]:
        """A comfortable reaching pose `(7,)` [rad] that settles which of the many solutions is taken."""
        sign = 1.0 if side == "left" else -1.0
        return np.array([-0.3, 0.25 * sign, -0.1 * sign, 0.3, 0.0, 0.0, 0.0])

    def _torso_pose(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        data = self._configuration.data
        return data.xpos[self._torso], data.xmat[self._torso].reshape(3, 3)

    def forward(self, joints: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position `(3,)` [m] and rotation `(3, 3)` of the grasp point in the torso frame for angles `(7,)` [rad]."""
        self._configuration.update(joints)
        origin, axes = self._torso_pose()
        data = self._configuration.data
        rotation = data.site_xmat[self._site].reshape(3, 3)
        return axes.T @ (data.site_xpos[self._site] - origin), axes.T @ rotation

    def solve(
        self,
        position: NDArray[np.float64],
        rotation: NDArray[np.float64],
        start: NDArray[np.float64],
        iterations: int = 4,
    ) -> tuple[NDArray[np.float64], float]:
        """Angles `(7,)` [rad] near `start` that bring the grasp point to a pose in the torso frame.

        Returns the angles and the distance that remains [m].
        """
        origin, axes = self._torso_pose()
        target = np.eye(4)
        target[:3, :3], target[:3, 3] = axes @ rotation, origin + axes @ position
        self._reach.set_target(mink.SE3.from_matrix(target))
        self._configuration.update(start)
        for _ in range(iterations):
            velocity = mink.solve_ik(
                self._configuration,
                [self._reach, self._posture],
                _STEP_SECONDS,
                "daqp",
                _DAMPING,
                limits=self._limits,
            )
            self._configuration.integrate_inplace(velocity, _STEP_SECONDS)
        reached = self._configuration.data.site_xpos[self._site]
        return self._configuration.q.copy(), float(np.linalg.norm(target[:3, 3] - reached))
