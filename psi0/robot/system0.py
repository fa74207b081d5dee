"""System-0: eight commands in, fifteen leg and waist targets out, at 50 Hz.

The stand-in for Psi-Zero's controller is the public PPO walking policy of holosoma. It was trained with still arms
and without height or torso commands, so some things are done to it here. The arms are masked: their part of its
observation always shows the neutral pose, else reaching makes it drift by metres. Height and torso are offsets it
does not see: subtracted from what it observes, added to what it answers. It knows rates of turning, no headings: the
loop to the target yaw is closed around it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from psi0.robot.angles import wrapped, yaw_of
from psi0.robot.assets import system0_weights
from psi0.robot.constants import CROUCH, DEFAULT_LOWER_BODY, SETTING_OFF, STANDING_DEAD_ZONE, TICK_HZ, servo_gains
from psi0.robot.layout import LOWER_BODY_COMMANDS, LOWER_BODY_JOINTS

_BODY_SIZE = 29
_LOWER_SIZE = len(LOWER_BODY_JOINTS)
_ACTION_SCALE = 0.25
_ANGULAR_VELOCITY_SCALE = 0.25
_JOINT_VELOCITY_SCALE = 0.05
_STRIDE_SECONDS = 1.0
_STANDING_PHASE = np.full(2, np.pi)
_FIRST_PHASE = np.array([1.75, 1.75 - np.pi])
"""Phases of the left and right foot from which a walk begins [rad]: from 0 and pi its first steps lurch 15 cm aside."""
_HEADING_GAIN, _FASTEST_CORRECTION = 0.3, 0.08
"""Turn per second and radian off the target yaw [1/s], and the most [rad/s]."""
_COMMAND = {name: index for index, name in enumerate(LOWER_BODY_COMMANDS)}
_HIP_PITCH, _KNEE, _ANKLE_PITCH, _WAIST = [0, 6], [3, 9], [4, 10], [12, 13, 14]


@dataclass(frozen=True)
class Proprioception:
    """What System-0 feels.

    Attributes:
        position: `(15,)` joint positions in the order of `LOWER_BODY_JOINTS` [rad].
        velocity: `(15,)` joint velocities [rad/s].
        angular_velocity: `(3,)` of the pelvis in its own frame [rad/s].
        quaternion: `(4,)` orientation of the pelvis, w first.
        arm_position: `(14,)` joint positions in the order of `ARM_JOINTS` [rad].
        arm_velocity: `(14,)` joint velocities [rad/s].
    """

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    angular_velocity: NDArray[np.float64]
    quaternion: NDArray[np.float64]
    arm_position: NDArray[np.float64]
    arm_velocity: NDArray[np.float64]


class System0(Protocol):
    """A lower-body controller: ours, or another one behind the same eight commands."""

    @property
    def gains(self) -> Mapping[str, tuple[float, float]]:
        """Servo gains it was trained with, per `LOWER_BODY_JOINTS`: stiffness [N m / rad], damping [N m s / rad]."""
        ...

    @property
    def stance(self) -> NDArray[np.float64]:
        """Pose `(15,)` of `LOWER_BODY_JOINTS` that an episode begins in [rad]."""
        ...

    def reset(self) -> None:
        """Forget the last episode."""
        ...

    def step(self, felt: Proprioception, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets `(15,)` of `LOWER_BODY_JOINTS` [rad] for commands `(8,)` in the order of `LOWER_BODY_COMMANDS`."""
        ...


def hidden_offset(command: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joint offsets `(15,)` [rad] that make the torso and height of a command `(8,)`."""
    offset = np.zeros(_LOWER_SIZE)
    bend = np.interp(command[_COMMAND["height"]], *CROUCH)
    offset[_HIP_PITCH], offset[_KNEE], offset[_ANKLE_PITCH] = -bend, 2 * bend, -bend
    offset[_WAIST] = command[[_COMMAND["torso_yaw"], _COMMAND["torso_roll"], _COMMAND["torso_pitch"]]]
    return offset


def gravity_direction(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector of gravity `(3,)` in the frame that `quaternion` `(4,)`, w first, turns into the world's."""
    w, x, y, z = quaternion
    return np.array([2 * (w * y - x * z), -2 * (w * x + y * z), 2 * (x * x + y * y) - 1])


class WalkingPolicy:
    """The masked PPO walking policy (ONNX, one thread, 0.1 ms a step).

    While it walks it turns at `velocity_yaw`, and besides towards `target_yaw`, a heading relative to the one at the
    first tick of the episode. While it stands neither acts.
    """

    def __init__(self) -> None:
        import onnxruntime

        self.gains: Mapping[str, tuple[float, float]] = {joint: servo_gains(joint) for joint in LOWER_BODY_JOINTS}
        self.stance = DEFAULT_LOWER_BODY
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._network = onnxruntime.InferenceSession(
            str(system0_weights()), options, providers=["CPUExecutionProvider"]
        )
        self.reset()

    def reset(self) -> None:
        """Stand, the first step to come."""
        self._last = np.zeros(_BODY_SIZE)
        self._phase, self._standing = _STANDING_PHASE, True
        self._first_yaw: float | None = None

    def _advance_phase(self, stands: bool) -> None:
        if stands:
            self._phase, self._standing = _STANDING_PHASE, True
        elif self._standing:
            self._phase, self._standing = _FIRST_PHASE, False
        else:
            stride = 2 * np.pi / (_STRIDE_SECONDS * TICK_HZ)
            self._phase = np.fmod(self._phase + stride + np.pi, 2 * np.pi) - np.pi

    def _velocity(self, quaternion: NDArray[np.float64], command: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """What the network is asked for `(3,)` [m/s, m/s, rad/s]; None to stand."""
        yaw = yaw_of(quaternion)
        if self._first_yaw is None:
            self._first_yaw = yaw
        velocity = command[[_COMMAND[name] for name in ("velocity_x", "velocity_y", "velocity_yaw")]]
        least = SETTING_OFF if self._standing else STANDING_DEAD_ZONE
        if max(np.hypot(velocity[0], velocity[1]), abs(velocity[2])) < least:
            return None
        astray = wrapped(self._first_yaw + command[_COMMAND["target_yaw"]] - yaw)
        velocity[2] += np.clip(_HEADING_GAIN * astray, -_FASTEST_CORRECTION, _FASTEST_CORRECTION)
        return np.clip(velocity, -1.0, 1.0)

    def step(self, felt: Proprioception, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets `(15,)` [rad]; velocity commands all within the dead zone mean standing still."""
        asked = self._velocity(felt.quaternion, command)
        self._advance_phase(stands=asked is None)
        velocity = np.zeros(3) if asked is None else asked
        offset = hidden_offset(command)
        position, speed = np.zeros(_BODY_SIZE), np.zeros(_BODY_SIZE)
        position[:_LOWER_SIZE] = felt.position - offset - DEFAULT_LOWER_BODY
        speed[:_LOWER_SIZE] = felt.velocity * _JOINT_VELOCITY_SCALE
        observation = np.concatenate(
            [
                self._last,
                felt.angular_velocity * _ANGULAR_VELOCITY_SCALE,
                velocity[[2, 0, 1]],
                np.cos(self._phase),
                position,
                speed,
                gravity_direction(felt.quaternion),
                np.sin(self._phase),
            ]
        )
        answer = self._network.run(None, {"actor_obs": observation.astype(np.float32)[None]})[0][0]
        self._last[:_LOWER_SIZE] = np.clip(answer[:_LOWER_SIZE], -100.0, 100.0)
        return self._last[:_LOWER_SIZE] * _ACTION_SCALE + DEFAULT_LOWER_BODY + offset
