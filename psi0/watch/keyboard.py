"""A person as policy: keys move the robot's commands in steps; see `psi0.watch.keys.KEY_HELP` for which."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.angles import wrapped
from psi0.robot.constants import CLOSED_LEFT, CLOSED_RIGHT, OPEN_LEFT, OPEN_RIGHT, READY_ARMS
from psi0.robot.kinematics import ArmKinematics
from psi0.robot.layout import ACTION_NAMES, ActionPart
from psi0.sim.demonstrators.motion import approach
from psi0.sim.scene import rotation_z
from psi0.sim.world import World
from psi0.watch.keys import KEY_HELP, Keys

_COMMAND_STEPS = {
    "w": ("velocity_x", 0.2),
    "s": ("velocity_x", -0.2),
    "a": ("velocity_y", 0.2),
    "d": ("velocity_y", -0.2),
    "z": ("velocity_yaw", 0.2),
    "c": ("velocity_yaw", -0.2),
    "r": ("height", 0.02),
    "f": ("height", -0.02),
    "t": ("torso_pitch", 0.05),
    "g": ("torso_pitch", -0.05),
}
"""What a key adds to which command [m/s, rad/s, m, rad]."""
_HAND_STEP = 0.03
"""How far a key moves a hand [m]."""
_HAND_STEPS = {
    "i": (1.0, 0.0, 0.0),
    "k": (-1.0, 0.0, 0.0),
    "j": (0.0, 1.0, 0.0),
    "l": (0.0, -1.0, 0.0),
    "u": (0.0, 0.0, 1.0),
    "o": (0.0, 0.0, -1.0),
}
"""Directions in the frame of the torso: they lean and turn with it."""


@dataclass(frozen=True)
class _Side:
    """Arm and hand within an action, finger poses `(7,)` [rad], and where a level hand points [rad from ahead]."""

    arm: slice
    hand: slice
    opened: NDArray[np.float64]
    closed: NDArray[np.float64]
    yaw: float


_SIDES = {
    "left": _Side(ActionPart.LEFT_ARM, ActionPart.LEFT_HAND, OPEN_LEFT, CLOSED_LEFT, -0.25),
    "right": _Side(ActionPart.RIGHT_ARM, ActionPart.RIGHT_HAND, OPEN_RIGHT, CLOSED_RIGHT, 0.25),
}
_ARM_SPEED, _FINGER_SPEED = 2.0, 3.0
"""Joint speeds [rad/s]."""
_LARGEST_MISS = 0.04
"""A hand is not sent where its joints miss the place by more than this [m]."""
_ITERATIONS_TO_TRY = 60
_READY_WITHIN = 0.01


class _Arm:
    """One arm: its elbow bends first, then its hand is held level at a place of the torso's frame that keys move."""

    def __init__(self, robot_folder: Path, side: str, joints: NDArray[np.float64]) -> None:
        self._kinematics = ArmKinematics(robot_folder, side)
        self._rotation = rotation_z(_SIDES[side].yaw)
        self._ready = READY_ARMS[:7] if side == "left" else READY_ARMS[7:]
        self._is_ready = False
        self._joints = joints.copy()
        self._goal = self._kinematics.forward(self._ready)[0]

    def shift(self, way: NDArray[np.float64]) -> bool:
        """Move the goal by `way` `(3,)` [m]; False, and nothing done, where that is out of reach."""
        start = self._joints if self._is_ready else self._ready
        _, miss = self._kinematics.solve(self._goal + way, self._rotation, start, _ITERATIONS_TO_TRY)
        if miss > _LARGEST_MISS:
            return False
        self._goal = self._goal + way
        return True

    def advance(self, seconds: float) -> NDArray[np.float64]:
        """Joints `(7,)` one control step later [rad]."""
        wanted = self._ready
        if self._is_ready:
            wanted, _ = self._kinematics.solve(self._goal, self._rotation, self._joints)
        self._joints = approach(self._joints, wanted, _ARM_SPEED * seconds)
        self._is_ready |= bool(np.abs(self._joints - self._ready).max() < _READY_WITHIN)
        return self._joints


class Keyboard:
    """Holds every command until a key changes it.

    Args:
        world: it is driven in; only its last action and its limits are read.
        say: told what is commanded, and what a key did not do, in one line each.
    """

    privileged = False

    def __init__(self, world: World, keys: Keys, say: Callable[[str], None]) -> None:
        self._world, self._keys, self._say = world, keys, say
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin with what the robot stands with; call it after the world's reset."""
        self._action = np.array(self._world.commanded, np.float64)
        self._arms: dict[str, _Arm] = {}
        self._closed = {"left": False, "right": False}
        self._side = "right"
        self._told = ""
        self.stopped = False

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action `(1, 36)`: what was commanded, after the keys pressed since."""
        pressed = self._keys.pressed()
        self.stopped |= pressed is None
        for key in pressed or "":
            self._press(key)
        seconds = 1.0 / self._world.policy_hz
        self._turn(seconds)
        for name, side in _SIDES.items():
            if name in self._arms:
                self._action[side.arm] = self._arms[name].advance(seconds)
            fingers = side.closed if self._closed[name] else side.opened
            self._action[side.hand] = approach(self._action[side.hand], fingers, _FINGER_SPEED * seconds)
        if pressed:
            self._tell()
        return self._world.limits.clip(self._action)[None]

    def _turn(self, seconds: float) -> None:
        """Keep the target yaw where the robot has been told to turn by now; not being told, it holds its heading."""
        yaw, velocity = ActionPart.TARGET_YAW, self._action[ActionPart.VELOCITY]
        self._action[yaw] = wrapped(self._action[yaw] + velocity[2] * seconds)

    def _press(self, key: str) -> None:
        if key in _COMMAND_STEPS:
            name, step = _COMMAND_STEPS[key]
            index = ACTION_NAMES.index(name)
            self._action[index] = round(self._action[index] + step, 6)
            self._action = self._world.limits.clip(self._action).astype(np.float64)
        elif key in _HAND_STEPS:
            self._move_hand(_HAND_STEP * np.array(_HAND_STEPS[key]))
        elif key in ("n", "m"):
            self._closed[self._side] = key == "m"
        elif key == "h":
            self._side = "left" if self._side == "right" else "right"
        elif key in ("x", " "):
            self._action[ActionPart.VELOCITY] = 0.0
        elif key in ("?", "/"):
            self._say(KEY_HELP)
        elif key == "q":
            self.stopped = True
        elif key != ".":
            self._say(f"{key!r} does nothing; ? lists the keys")

    def _move_hand(self, way: NDArray[np.float64]) -> None:
        if self._side not in self._arms:
            joints = self._action[_SIDES[self._side].arm]
            self._arms[self._side] = _Arm(self._world.robot_folder, self._side, joints)
        if not self._arms[self._side].shift(way):
            self._say(f"out of reach of the {self._side} hand")

    def _tell(self) -> None:
        """Say what is commanded, in one line, when it is not what was said last."""
        x, y, yaw = self._action[ActionPart.VELOCITY]
        pitch, height = self._action[ACTION_NAMES.index("torso_pitch")], self._action[ActionPart.HEIGHT]
        line = (
            f"walk {x:+.1f} {y:+.1f} m/s, turn {yaw:+.1f} rad/s, height {height:.2f} m, lean {pitch:+.2f} rad, "
            f"{self._side} hand {'closed' if self._closed[self._side] else 'open'}"
        )
        if line != self._told:
            self._say(f"{self._world.steps / self._world.policy_hz:5.1f} s  {line}")
        self._told = line
