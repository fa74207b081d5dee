"""The robot with System-0 on an empty floor: give it a command, watch what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0 import paths
from psi0.robot.angles import wrapped, yaw_of
from psi0.robot.constants import (
    CLOSED_LEFT,
    CLOSED_RIGHT,
    DEFAULT_ARMS,
    NOMINAL_HEIGHT,
    READY_ARMS,
    TICK_HZ,
)
from psi0.robot.layout import LOWER_BODY_COMMANDS
from psi0.robot.model import TORSO, robot_spec
from psi0.robot.physics import mujoco
from psi0.robot.system0_folder import load_system0
from psi0.sim.actuation import Body
from psi0.sim.clock import PHYSICS_HZ, STEPS_PER_TICK
from psi0.sim.scene import add_room, quaternion_z, rotation_z

_SPAWN_HEIGHT, _SETTLE_SECONDS = 0.79, 1.0
_FALLEN_HEIGHT, _FALLEN_UPRIGHT = 0.5, 0.6
_SHAKEN = 0.05
_NEW_POSE_SECONDS, _ARM_SPEED = 1.5, 1.5
_VELOCITY_YAW, _TARGET_YAW = (LOWER_BODY_COMMANDS.index(name) for name in ("velocity_yaw", "target_yaw"))
_REACH = np.array([0.6, 0.25, 0.4, 0.6, 0.5, 0.4, 0.4])

Push = Callable[[float], NDArray[np.float64]]
"""Force on the torso in the world `(3,)` [N] at a time [s]."""


def command(**values: float) -> NDArray[np.float64]:
    """Commands `(8,)` to System-0: standing, but for the values given by name."""
    asked = {"height": NOMINAL_HEIGHT} | values
    return np.array([asked.get(name, 0.0) for name in LOWER_BODY_COMMANDS])


@dataclass(frozen=True)
class Track:
    """What the robot did, one row per tick of 20 ms, up to a fall.

    Attributes:
        position: pelvis `(n, 3)` [m].
        yaw: heading of the pelvis `(n,)`, without jumps [rad].
        torso: roll, pitch and yaw of the torso `(n, 3)`, from upright and from the pelvis's heading [rad].
        fell: whether it ends with a fall.
        begun: heading when the robot was put down, which target yaw is relative to [rad].
    """

    position: NDArray[np.float64]
    yaw: NDArray[np.float64]
    torso: NDArray[np.float64]
    fell: bool
    begun: float

    @property
    def seconds(self) -> float:
        """How long it lasted [s]."""
        return len(self.yaw) / TICK_HZ

    @property
    def turned(self) -> NDArray[np.float64]:
        """Heading `(n,)` relative to how the robot was put down [rad]."""
        return self.yaw - self.yaw[0] + wrapped(self.yaw[0] - self.begun)

    def velocity(self, skip_seconds: float) -> NDArray[np.float64]:
        """Mean vx, vy along the heading [m/s] and yaw rate [rad/s] `(3,)` after the first seconds."""
        first = round(skip_seconds * TICK_HZ)
        moved = np.diff(self.position[first:, :2], axis=0) * TICK_HZ
        turns = self.yaw[first:-1]
        ahead = moved[:, 0] * np.cos(turns) + moved[:, 1] * np.sin(turns)
        left = moved[:, 1] * np.cos(turns) - moved[:, 0] * np.sin(turns)
        rate = (self.yaw[-1] - self.yaw[first]) * TICK_HZ / (len(self.yaw) - 1 - first)
        return np.array([ahead.mean(), left.mean(), rate])

    @property
    def drift(self) -> tuple[float, float]:
        """Distance [m] and turn [rad] between the first row and the last."""
        way = self.position[-1, :2] - self.position[0, :2]
        return float(np.linalg.norm(way)), float(self.yaw[-1] - self.yaw[0])


class Floor:
    """An empty room with the robot; `stand` begins anew, `run` executes commands."""

    def __init__(self, robot_folder: Path = paths.ROBOT) -> None:
        self._system0 = load_system0(robot_folder)
        spec = robot_spec(robot_folder, self._system0.gains)
        spec.option.timestep = 1.0 / PHYSICS_HZ
        add_room(spec)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._body = Body(self.model, self.data)
        self._hands = np.concatenate([CLOSED_LEFT, CLOSED_RIGHT])
        self._torso = self.model.body(TORSO).id
        self.stand(0)

    def stand(self, seed: int, reaching: bool = False) -> None:
        """Stand still for a second, legs shaken by up to 0.05 rad; `reaching` moves the arms all the time from then."""
        self._random = np.random.default_rng([seed, 17])
        mujoco.mj_resetData(self.model, self.data)
        self._system0.reset()
        self.data.qpos[2] = _SPAWN_HEIGHT
        self._begun, self._driven = self._random.uniform(-np.pi, np.pi), 0.0
        self.data.qpos[3:7] = quaternion_z(self._begun)
        self._arms = self._goal = DEFAULT_ARMS.copy()
        stance = self._system0.stance
        shaken = stance + self._random.uniform(-_SHAKEN, _SHAKEN, len(stance))
        self._body.set_pose(shaken, self._arms)
        mujoco.mj_forward(self.model, self.data)
        self._reaching, self._ticks = False, 0
        self.run(command(), _SETTLE_SECONDS)
        self._reaching = reaching

    def run(self, commands: NDArray[np.float64], seconds: float, push: Push | None = None) -> Track:
        """Execute commands `(8,)` until the time is over or the robot falls.

        The target yaw is moved on at `velocity_yaw`, as who drives a robot moves it.
        """
        position, yaw, torso, fell = [], [], [], False
        for tick in range(round(seconds * TICK_HZ)):
            self._move_arms()
            self._driven += commands[_VELOCITY_YAW] / TICK_HZ
            told = commands.copy()
            told[_TARGET_YAW] = wrapped(told[_TARGET_YAW] + self._driven)
            lower = self._system0.step(self._body.proprioception(), told)
            self._body.drive(lower, self._arms, self._hands)
            self.data.xfrc_applied[self._torso, :3] = 0.0 if push is None else push(tick / TICK_HZ)
            mujoco.mj_step(self.model, self.data, STEPS_PER_TICK)
            position.append(self.data.qpos[:3].copy())
            yaw.append(yaw_of(self.data.qpos[3:7]))
            torso.append(self._torso_angles(yaw[-1]))
            upright = self.data.body("pelvis").xmat[8]
            if not np.isfinite(self.data.qpos).all() or self.data.qpos[2] < _FALLEN_HEIGHT or upright < _FALLEN_UPRIGHT:
                fell = True
                break
        self.data.xfrc_applied[self._torso] = 0.0
        return Track(np.array(position), np.unwrap(yaw), np.array(torso), fell, self._begun)

    def _torso_angles(self, yaw: float) -> NDArray[np.float64]:
        turned = rotation_z(-yaw) @ self.data.body(self._torso).xmat.reshape(3, 3)
        return np.array(
            [
                np.arctan2(turned[2, 1], turned[2, 2]),
                -np.arcsin(np.clip(turned[2, 0], -1.0, 1.0)),
                np.arctan2(turned[1, 0], turned[0, 0]),
            ]
        )

    def _move_arms(self) -> None:
        if self._reaching:
            if self._ticks % round(_NEW_POSE_SECONDS * TICK_HZ) == 0:
                self._goal = READY_ARMS + self._random.uniform(-1.0, 1.0, len(READY_ARMS)) * np.tile(_REACH, 2)
            most = _ARM_SPEED / TICK_HZ
            self._arms = self._arms + np.clip(self._goal - self._arms, -most, most)
        self._ticks += 1
