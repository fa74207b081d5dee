"""Pick up the can: walk to the table, grasp the can, or the one of two that was named, lift it and keep it up."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from psi0.robot.physics import mujoco
from psi0.sim.scene import (
    TABLE_HEIGHT,
    TABLE_WIDTH,
    add_bystander,
    add_can,
    add_table,
    edge_beside,
    quaternion_z,
)
from psi0.sim.tasks.base import HANDS, RAISED, Progress, Start, Task, View
from psi0.sim.tasks.choice import spots_apart
from psi0.sim.tasks.poses import Poses

CAN_RADIUS, CAN_HALF_HEIGHT, CAN_MASS = 0.033, 0.06, 0.25
CAN_X, CAN_Y = (0.11, 0.21), (-0.25, 0.25)
"""Where the can may stand on the table [m]."""
ROBOT_X, ROBOT_Y, ROBOT_YAW = (-0.60, -0.35), (-0.2, 0.2), (-0.25, 0.25)
"""Where the robot may start [m, m, rad]."""
CANS_APART = 0.24
"""Two cans stand at least so far apart along the table's edge: the open hand passes between them [m]."""
HOLD_SECONDS = 1.0

_BYSTANDERS = {"carton": ("box", (0.035, 0.05, 0.07)), "jar": ("cylinder", (0.03, 0.03, 0.045))}
_BYSTANDER_X = (0.37, 0.44)
_CLEARANCE = 0.17
_FALLEN_BELOW = -0.05


class PickCan(Task):
    """Success: the can at least 9 cm above where it stood, in touch with a hand, for one second; robot upright."""

    name = "pick_can"
    seconds = 20.0
    instructions: ClassVar[tuple[str, ...]] = (
        "Pick up the can.",
        "Grasp the can and lift it.",
        "Take the can from the table.",
    )
    choices: ClassVar[dict[str, str]] = {"can": "other_can"}
    naming_instructions: ClassVar[tuple[str, ...]] = (
        "Pick up the {can} can.",
        "Grasp the {can} can and lift it.",
        "Take the {can} can from the table.",
    )
    evaluation_naming_instructions: ClassVar[tuple[str, ...]] = ("Lift the {can} can.",)
    object_name = "can"
    average_place = (sum(CAN_X) / 2, sum(CAN_Y) / 2, TABLE_HEIGHT + CAN_HALF_HEIGHT)
    average_start = Start(sum(ROBOT_X) / 2, sum(ROBOT_Y) / 2, sum(ROBOT_YAW) / 2)
    key_point_names = ("can", "edge_left", "edge_right")

    def build(self, spec: mujoco.MjSpec) -> None:
        """A table with one can or two, and two things at its far edge, out of the way of the reaching arm."""
        add_table(spec)
        for name in ("can", "other_can")[: self.objects]:
            add_can(spec, name, CAN_RADIUS, CAN_HALF_HEIGHT, CAN_MASS)
        for name, (shape, size) in _BYSTANDERS.items():
            add_bystander(spec, name, shape, size)

    def place(self, view: View, poses: Poses) -> Start:
        """Draw the robot's start, the cans, and the bystanders at least 17 cm away from them and from each other."""
        start = Start(poses.within(*ROBOT_X), poses.within(*ROBOT_Y), poses.within(*ROBOT_YAW))
        taken = [_spot(poses)] if self.objects == 1 else spots_apart(poses, _spot, CANS_APART)
        for name, spot in zip(("can", "other_can"), list(taken), strict=False):
            can = np.array([*spot, TABLE_HEIGHT + CAN_HALF_HEIGHT + 0.001])
            view.place(name, can, quaternion_z(poses.uniform(-np.pi, np.pi)))
        for name, (_, size) in _BYSTANDERS.items():
            while True:
                spot = np.array([poses.uniform(*_BYSTANDER_X), poses.uniform(-0.42, 0.42) * TABLE_WIDTH])
                if all(np.linalg.norm(spot - other) > _CLEARANCE for other in taken):
                    break
            taken.append(spot)
            view.place(name, np.array([*spot, TABLE_HEIGHT + size[2]]), quaternion_z(poses.uniform(-np.pi, np.pi)))
        return start

    def settled(self, view: View) -> bool:
        """Every can stands upright on the table and does not move."""
        return all(
            abs(_rise(view, can)) < 0.005 and view.upright(can) > 0.99 and view.speed(can) < 0.02
            for can in ("can", "other_can")[: self.objects]
        )

    def key_points(self, view: View) -> NDArray[np.float64]:
        """The centre of the can that is meant and the table's front edge to its left and right `(3, 3)` [m]."""
        can = view.position("can")
        return np.concatenate([can[None], edge_beside(can, TABLE_HEIGHT)])

    def update(self, view: View, progress: Progress, seconds: float) -> None:
        """Note touch and lift; end with success after one second up, with the wrong can up, or with the can down."""
        rise, touching = _rise(view, "can"), view.touching("can", HANDS)
        progress.touched |= touching
        up = rise >= RAISED and touching
        progress.lifted |= up
        progress.held_seconds = progress.held_seconds + seconds if up else 0.0
        if progress.held_seconds >= HOLD_SECONDS:
            progress.ended = "success"
        elif rise < _FALLEN_BELOW:
            progress.ended = "dropped" if progress.lifted else "not_grasped"
        elif self.objects == 2 and _rise(view, "other_can") >= RAISED and view.touching("other_can", HANDS):
            progress.ended = "wrong_object"


def _spot(poses: Poses) -> NDArray[np.float64]:
    return np.array([poses.within(*CAN_X), poses.within(*CAN_Y)])


def _rise(view: View, can: str) -> float:
    """How high a can is above where it would stand on the table [m]."""
    return float(view.position(can)[2] - TABLE_HEIGHT - CAN_HALF_HEIGHT)
