"""What changes between episodes besides poses, and how widely those vary, in three levels.

- `L0`: colours of the table, the floor, the object and the bystanders.
- `L1`: L0, and light, head-camera mount (millimetres, half degrees), friction and mass of the object.
- `L2`: L1 twice as wide, every colour free that is not named, a push against the torso while the robot walks up, and
  poses of object and robot from ranges a quarter wider (`pose_widening`).
"""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.robot.model import HEAD_CAMERA
from psi0.robot.physics import mujoco
from psi0.sim.scene import FLOOR_MATERIAL
from psi0.sim.tasks.base import Task
from psi0.sim.tasks.choice import NAMED_COLORS, Color

Level = Literal["L0", "L1", "L2"]
LEVELS: tuple[Level, ...] = ("L0", "L1", "L2")

_WIDER = 1.25
_CAN_HUE, _TABLE_HUE, _FLOOR_HUE = (-0.02, 0.03), (0.05, 0.12), (0.52, 0.68)
_BYSTANDER_HUE = (0.25, 0.75)
_PUSH_NEWTON, _PUSH_SECONDS, _PUSH_BEFORE = 60.0, 0.2, 3.0


def check_level(name: str) -> Level:
    """A level by name. Raises `Psi0Error` that lists the known ones."""
    for level in LEVELS:
        if level == name:
            return level
    raise Psi0Error(f"level {name!r} does not exist; levels: {', '.join(LEVELS)}")


def pose_widening(level: Level) -> float:
    """How much wider the ranges are from which object and robot start."""
    return _WIDER if level == "L2" else 1.0


@dataclass(frozen=True)
class Push:
    """A push against the torso: when it starts and ends [s], and its force in the world `(3,)` [N]."""

    start: float
    end: float
    force: NDArray[np.float64]


def random_color(
    random: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> list[float]:
    """An opaque colour within ranges of hue, saturation and value, each 0 to 1; hues wrap around."""
    red_green_blue = colorsys.hsv_to_rgb(
        random.uniform(*hue) % 1.0, random.uniform(*saturation), random.uniform(*value)
    )
    return [*red_green_blue, 1.0]


class Variation:
    """Remembers a model as built and varies it anew for each episode."""

    def __init__(self, model: mujoco.MjModel, task: Task, level: Level) -> None:
        self._model, self._task, self._level = model, task, level
        self._width = {"L0": 0.0, "L1": 1.0, "L2": 2.0}[level]
        camera = model.camera(HEAD_CAMERA).id
        self._camera = camera
        self._camera_position = model.cam_pos[camera].copy()
        self._camera_quaternion = model.cam_quat[camera].copy()
        self._friction = model.geom_friction.copy()
        self._mass, self._inertia = model.body_mass.copy(), model.body_inertia.copy()

    def apply(self, random: np.random.Generator, names: Mapping[str, str]) -> Push | None:
        """Vary colours, and from L1 on the rest. Returns the push of this episode, at L2.

        Args:
            names: geoms that an instruction tells apart, and the names of their colours.
        """
        self._paint(random, {geom: NAMED_COLORS[name] for geom, name in names.items()})
        if self._level == "L0":
            return None
        self._light_and_camera(random)
        self._physics(random)
        if self._level == "L1":
            return None
        start, angle = random.uniform(0.5, _PUSH_BEFORE), random.uniform(-np.pi, np.pi)
        return Push(start, start + _PUSH_SECONDS, _PUSH_NEWTON * np.array([np.cos(angle), np.sin(angle), 0.0]))

    def _paint(self, random: np.random.Generator, named: Mapping[str, Color]) -> None:
        free = self._level == "L2"
        model, anywhere = self._model, (0.0, 1.0)
        model.mat_rgba[model.material(FLOOR_MATERIAL).id] = random_color(
            random, anywhere if free else _FLOOR_HUE, (0.15, 0.55), (0.35, 0.65)
        )
        table = random_color(random, anywhere if free else _TABLE_HUE, (0.2, 0.55), (0.45, 0.8))
        leg = [*(0.6 * value for value in table[:3]), 1.0]
        can = random_color(random, anywhere if free else _CAN_HUE, (0.8, 1.0), (0.65, 0.9))
        for index in range(model.ngeom):
            name = model.geom(index).name
            if name in named or name in self._task.colors:
                hue, saturation, value = named.get(name) or self._task.colors[name]
                model.geom_rgba[index] = random_color(random, hue, saturation, value)
            elif name == "table":
                model.geom_rgba[index] = table
            elif name.startswith("table_leg"):
                model.geom_rgba[index] = leg
            elif name == self._task.object_name:
                model.geom_rgba[index] = can
            elif name and name != "floor" and model.body_mocapid[model.geom_bodyid[index]] >= 0:
                model.geom_rgba[index] = random_color(
                    random, anywhere if free else _BYSTANDER_HUE, (0.1, 0.5), (0.35, 0.8)
                )

    def _light_and_camera(self, random: np.random.Generator) -> None:
        model, width = self._model, self._width
        lamp = model.light("lamp").id
        model.light_pos[lamp] = np.array([-0.6, -0.8, 3.0]) + random.uniform(-0.4, 0.4, 3) * width
        model.light_diffuse[lamp] = np.clip(0.7 + random.uniform(-0.15, 0.15) * width, 0.2, 1.0)
        model.vis.headlight.diffuse[:] = np.clip(0.4 + random.uniform(-0.1, 0.1) * width, 0.1, 0.8)
        model.cam_pos[self._camera] = self._camera_position + random.normal(0, 0.003, 3) * width
        tilt, quaternion = random.normal(0, 0.009, 3) * width, np.zeros(4)
        turn = np.array([1.0, *(tilt / 2)])
        mujoco.mju_mulQuat(quaternion, self._camera_quaternion, turn / np.linalg.norm(turn))
        model.cam_quat[self._camera] = quaternion

    def _physics(self, random: np.random.Generator) -> None:
        model = self._model
        geom, body = model.geom(self._task.object_name).id, model.body(self._task.object_name).id
        model.geom_friction[geom] = self._friction[geom] * (1 + random.uniform(-0.15, 0.15) * self._width)
        factor = 1 + random.uniform(-0.2, 0.2) * self._width
        model.body_mass[body], model.body_inertia[body] = (
            self._mass[body] * factor,
            self._inertia[body] * factor,
        )
        mujoco.mj_setConst(model, mujoco.MjData(model))
