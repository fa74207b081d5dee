"""AMO as System-0: Psi-Zero's own lower-body controller, from files that a user gives.

What it observes and how, at every tick, follows the official code at 15d7d3a (`real/teleop/master_whole_body.py`); its
gains are those of the simulation it comes from (SIMPLE at 6a5efa5, `g1_wholebody.py`). It sees the legs, the waist and
four joints of each arm, never the wrists.
"""

from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0.robot.amo_networks import AmoNetworks
from psi0.robot.angles import roll_pitch_yaw
from psi0.robot.constants import DEFAULT_ARMS, NOMINAL_HEIGHT, TICK_HZ
from psi0.robot.layout import ARM_JOINTS, LOWER_BODY_COMMANDS, LOWER_BODY_JOINTS
from psi0.robot.system0 import Proprioception

_LOWER_SIZE = len(LOWER_BODY_JOINTS)
_SEEN_OF_ARMS = [index for index, joint in enumerate(ARM_JOINTS) if "wrist" not in joint]
_BODY_SIZE = _LOWER_SIZE + len(_SEEN_OF_ARMS)
_PROPRIOCEPTION_SIZE = 93
_HISTORY, _LONGER_HISTORY = 10, 25

_LEG_STANCE = [-0.1, 0.0, 0.0, 0.3, -0.2, 0.0]
_STANCE = np.array(_LEG_STANCE * 2 + [0.0, 0.0, 0.0])
_NEUTRAL = np.concatenate([_STANCE, [0.5, 0.0, 0.2, 0.3], [0.5, 0.0, -0.2, 0.3]])
_GAINS = {
    "hip": (150.0, 2.0),
    "knee": (300.0, 4.0),
    "ankle_pitch": (80.0, 2.0),
    "ankle_roll": (20.0, 1.0),
    "waist": (400.0, 15.0),
}
_ACTION_SCALE, _LARGEST_ACTION = 0.25, 40.0
_ANGULAR_VELOCITY_SCALE, _JOINT_VELOCITY_SCALE = 0.25, 0.05
_UNFELT = [i for i, joint in enumerate(LOWER_BODY_JOINTS) if any(p in joint for p in ("ankle", "waist_r", "waist_p"))]
"""Joints whose speed AMO is shown as 0."""
_GAIT_HZ = 1.3
_BOTH_FEET_DOWN, _APART, _PHASE_TOLERANCE = 0.25, np.array([0.25, 0.75]), 0.05
_STANDING_BELOW = 0.1
_COMMAND = {name: index for index, name in enumerate(LOWER_BODY_COMMANDS)}
_VELOCITIES = [_COMMAND[name] for name in ("velocity_x", "velocity_y", "velocity_yaw")]


class AmoPolicy:
    """AMO's TorchScript policy and adapter on the CPU.

    It turns to `target_yaw`, a heading relative to the one at the first tick of the episode; `velocity_yaw` only
    decides whether it stands. All commands reach it as they are.
    """

    def __init__(self, folder: Path) -> None:
        """Read AMO from a folder and try it once.

        Raises:
            Psi0Error: torch or a file is missing, or a file is not what AMO's is; it names the file.
        """
        self._networks = AmoNetworks(folder)
        self.gains: Mapping[str, tuple[float, float]] = {
            joint: next(gains for part, gains in _GAINS.items() if part in joint) for joint in LOWER_BODY_JOINTS
        }
        self.stance = _STANCE
        self._try()

    def _try(self) -> None:
        self.reset()
        standing = np.zeros(len(LOWER_BODY_COMMANDS))
        standing[_COMMAND["height"]] = NOMINAL_HEIGHT
        still = np.zeros(len(ARM_JOINTS))
        upright = np.array([1.0, 0.0, 0.0, 0.0])
        self.step(
            Proprioception(_STANCE, np.zeros(_LOWER_SIZE), np.zeros(3), upright, DEFAULT_ARMS, still),
            standing,
        )
        self.reset()

    def reset(self) -> None:
        """Stand, facing forward, with nothing behind it."""
        self._last = np.zeros(_BODY_SIZE)
        self._phase = np.full(2, _BOTH_FEET_DOWN)
        self._standing = True
        self._first_yaw: float | None = None
        nothing = np.zeros(_PROPRIOCEPTION_SIZE)
        self._history = deque([nothing] * _HISTORY, maxlen=_HISTORY)
        self._longer_history = deque([nothing] * _LONGER_HISTORY, maxlen=_LONGER_HISTORY)

    def step(self, felt: Proprioception, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets `(15,)` [rad]. Raises `Psi0Error` when the files answer with something that is no action."""
        arms = felt.arm_position[_SEEN_OF_ARMS]
        posture = command[[_COMMAND[name] for name in ("torso_yaw", "torso_pitch", "torso_roll")]]
        height = command[_COMMAND["height"]]
        sensed = self._sense(felt, command[_COMMAND["target_yaw"]], np.concatenate([[height], posture, arms]))
        forward, sideways, _ = velocity = command[_VELOCITIES]
        self._standing = bool((np.abs(velocity) < _STANDING_BELOW).all())
        demonstrated = np.concatenate([arms, [forward, sideways, 0.0], posture, [height] * 3])
        privileged = np.zeros(3)
        observation = np.concatenate([sensed, demonstrated, privileged, *self._history])
        # The longer history ends with this tick, the shorter one with the tick before.
        self._history.append(sensed)
        self._longer_history.append(sensed)
        self._advance_phase()
        answer = self._networks.act(observation, np.concatenate(self._longer_history))
        action = np.clip(answer, -_LARGEST_ACTION, _LARGEST_ACTION)
        self._last = np.concatenate([action, (arms - _NEUTRAL[_LOWER_SIZE:]) / _ACTION_SCALE])
        return action * _ACTION_SCALE + _STANCE

    def _sense(self, felt: Proprioception, target_yaw: float, adapted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Proprioception `(93,)`; whether it stands is what the tick before found."""
        roll, pitch, yaw = roll_pitch_yaw(felt.quaternion)
        if self._first_yaw is None:
            self._first_yaw = yaw
        astray = 0.0 if self._standing else yaw - self._first_yaw - target_yaw
        speed = felt.velocity.copy()
        speed[_UNFELT] = 0.0
        return np.concatenate(
            [
                felt.angular_velocity * _ANGULAR_VELOCITY_SCALE,
                [roll, pitch],
                [np.sin(astray), np.cos(astray)],
                np.concatenate([felt.position, felt.arm_position[_SEEN_OF_ARMS]]) - _NEUTRAL,
                np.concatenate([speed, felt.arm_velocity[_SEEN_OF_ARMS]]) * _JOINT_VELOCITY_SCALE,
                self._last,
                np.sin(2 * np.pi * self._phase),
                self._networks.adapt(adapted),
            ]
        )

    def _advance_phase(self) -> None:
        """Step both feet on; standing they come to rest where they meet the ground, walking sets them apart."""
        self._phase = np.remainder(self._phase + _GAIT_HZ / TICK_HZ, 1.0)
        down = np.abs(self._phase - _BOTH_FEET_DOWN) < _PHASE_TOLERANCE
        if self._standing and down.any():
            self._phase = np.full(2, _BOTH_FEET_DOWN)
        elif not self._standing and down.all():
            self._phase = _APART.copy()
