"""The robot's body inside a compiled scene: joints by name, servo targets in, measurements out."""

import numpy as np
from numpy.typing import NDArray

from psi0.robot.layout import ALL_JOINTS, ARM_JOINTS, HAND_JOINTS, LOWER_BODY_JOINTS, UPPER_BODY_JOINTS
from psi0.robot.limits import Limits
from psi0.robot.physics import mujoco
from psi0.robot.system0 import Proprioception

_OVERTRAVEL = 0.1
"""Joints may be pushed this far past their stops before it counts as a violation [rad]."""


class Body:
    """Addresses of the robot's 43 joints in a model, and the servos that drive them."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._data = data

        def positions(joints: tuple[str, ...]) -> NDArray[np.int64]:
            return np.array([model.joint(name).qposadr[0] for name in joints])

        def velocities(joints: tuple[str, ...]) -> NDArray[np.int64]:
            return np.array([model.joint(name).dofadr[0] for name in joints])

        def servos(joints: tuple[str, ...]) -> NDArray[np.int64]:
            return np.array([model.actuator(name).id for name in joints])

        self._lower, self._lower_velocity = positions(LOWER_BODY_JOINTS), velocities(LOWER_BODY_JOINTS)
        self._arms, self._arm_velocity = positions(ARM_JOINTS), velocities(ARM_JOINTS)
        self._upper, self._all = positions(UPPER_BODY_JOINTS), positions(ALL_JOINTS)
        self._all_velocity = velocities(ALL_JOINTS)
        self._lower_servo, self._arm_servo, self._hand_servo = map(servos, (LOWER_BODY_JOINTS, ARM_JOINTS, HAND_JOINTS))
        self._arm_stiffness = model.actuator_gainprm[self._arm_servo, 0].copy()
        self._fingers = np.isin(ALL_JOINTS, HAND_JOINTS)

    def set_pose(self, lower: NDArray[np.float64], arms: NDArray[np.float64]) -> None:
        """Put legs and waist `(15,)` and arms `(14,)` into a pose, hands open [rad]."""
        self._data.qpos[self._lower], self._data.qpos[self._arms] = lower, arms

    def proprioception(self) -> Proprioception:
        """What System-0 feels now."""
        data = self._data
        return Proprioception(
            position=data.qpos[self._lower],
            velocity=data.qvel[self._lower_velocity],
            angular_velocity=data.qvel[3:6].copy(),
            quaternion=data.qpos[3:7].copy(),
            arm_position=data.qpos[self._arms],
            arm_velocity=data.qvel[self._arm_velocity],
        )

    def gravity_torque(self) -> NDArray[np.float64]:
        """Torques `(14,)` that hold the arms against gravity and Coriolis forces [N m]."""
        return self._data.qfrc_bias[self._arm_velocity]

    def drive(self, lower: NDArray[np.float64], arms: NDArray[np.float64], hands: NDArray[np.float64]) -> None:
        """Set servo targets [rad]: `(15,)`, `(14,)`, `(14,)`. Arm servos add the torque that gravity asks for."""
        control = self._data.ctrl
        control[self._lower_servo] = lower
        control[self._arm_servo] = arms + self.gravity_torque() / self._arm_stiffness
        control[self._hand_servo] = hands

    def upper_position(self) -> NDArray[np.float64]:
        """Measured `UPPER_BODY_JOINTS` `(28,)` [rad]."""
        return self._data.qpos[self._upper]

    def lower_position(self) -> NDArray[np.float64]:
        """Measured `LOWER_BODY_JOINTS` `(15,)` [rad]."""
        return self._data.qpos[self._lower]

    def lower_target(self) -> NDArray[np.float64]:
        """Servo targets of `LOWER_BODY_JOINTS` `(15,)` [rad]."""
        return self._data.ctrl[self._lower_servo]

    def violation(self, limits: Limits) -> str | None:
        """Name the first joint beyond its stop by more than 0.1 rad or, fingers aside, faster than it can be."""
        position = self._data.qpos[self._all]
        beyond = np.flatnonzero(
            (position < limits.position_low - _OVERTRAVEL) | (position > limits.position_high + _OVERTRAVEL)
        )
        if beyond.size:
            return f"{ALL_JOINTS[beyond[0]]} at {position[beyond[0]]:.2f} rad"
        speed = np.abs(self._data.qvel[self._all_velocity])
        fast = np.flatnonzero((speed > limits.velocity) & ~self._fingers)
        return f"{ALL_JOINTS[fast[0]]} at {speed[fast[0]]:.1f} rad/s" if fast.size else None
