"""Pick up the can: walk to the table, grasp the one can that stands there, lift it and keep it up."""

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
from psi0.sim.tasks.base import Progress, Start, Task, View

CAN_RADIUS, CAN_HALF_HEIGHT, CAN_MASS = 0.033, 0.06, 0.25
CAN_X, CAN_Y = (0.11, 0.21), (-0.25, 0.25)
"""Where the can may stand on the table [m]."""
ROBOT_X, ROBOT_Y, ROBOT_YAW = (-0.60, -0.35), (-0.2, 0.2), (-0.25, 0.25)
"""Where the robot may start [m, m, rad]."""
LIFT_HEIGHT = 0.09
"""The can counts as lifted from here above the table [m]."""
HOLD_SECONDS = 1.0

_BYSTANDERS = {"carton": ("box", (0.035, 0.05, 0.07)), "jar": ("cylinder", (0.03, 0.03, 0.045))}
_BYSTANDER_X = (0.37, 0.44)
_CLEARANCE = 0.17
_HAND = ("right_hand", "left_hand")
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
    object_name = "can"
    average_place = (sum(CAN_X) / 2, sum(CAN_Y) / 2, TABLE_HEIGHT + CAN_HALF_HEIGHT)
    average_start = Start(sum(ROBOT_X) / 2, sum(ROBOT_Y) / 2, sum(ROBOT_YAW) / 2)
    key_point_names = ("can", "edge_left", "edge_right")

    def build(self, spec: mujoco.MjSpec) -> None:
        """A table with a can, and two things at its far edge, out of the way of the reaching arm."""
        add_table(spec)
        add_can(spec, "can", CAN_RADIUS, CAN_HALF_HEIGHT, CAN_MASS)
        for name, (shape, size) in _BYSTANDERS.items():
            add_bystander(spec, name, shape, size)

    def place(self, view: View, random: np.random.Generator) -> Start:
        """Draw the robot's start, the can, and the bystanders at least 17 cm away from it and from each other."""
        start = Start(random.uniform(*ROBOT_X), random.uniform(*ROBOT_Y), random.uniform(*ROBOT_YAW))
        can = np.array([random.uniform(*CAN_X), random.uniform(*CAN_Y), TABLE_HEIGHT + CAN_HALF_HEIGHT + 0.001])
        view.place("can", can, quaternion_z(random.uniform(-np.pi, np.pi)))
        taken = [can[:2]]
        for name, (_, size) in _BYSTANDERS.items():
            while True:
                spot = np.array([random.uniform(*_BYSTANDER_X), random.uniform(-0.42, 0.42) * TABLE_WIDTH])
                if all(np.linalg.norm(spot - other) > _CLEARANCE for other in taken):
                    break
            taken.append(spot)
            view.place(name, np.array([*spot, TABLE_HEIGHT + size[2]]), quaternion_z(random.uniform(-np.pi, np.pi)))
        return start

    def settled(self, view: View) -> bool:
        """The can stands upright on the table and does not move."""
        rise = view.position("can")[2] - TABLE_HEIGHT - CAN_HALF_HEIGHT
        return abs(rise) < 0.005 and view.upright("can") > 0.99 and view.speed("can") < 0.02

    def key_points(self, view: View) -> NDArray[np.float64]:
        """The can's centre and the table's front edge to its left and right `(3, 3)` [m]."""
        can = view.position("can")
        return np.concatenate([can[None], edge_beside(can, TABLE_HEIGHT)])

    def update(self, view: View, progress: Progress, seconds: float) -> None:
        """Note touch and lift; end with success after one second up, or when the can falls off the table."""
        rise = view.position("can")[2] - TABLE_HEIGHT - CAN_HALF_HEIGHT
        touching = view.touching("can", _HAND)
        progress.touched |= touching
        up = rise >= LIFT_HEIGHT and touching
        progress.lifted |= up
        progress.held_seconds = progress.held_seconds + seconds if up else 0.0
        if progress.held_seconds >= HOLD_SECONDS:
            progress.ended = "success"
        elif rise < _FALLEN_BELOW:
            progress.ended = "dropped" if progress.lifted else "not_grasped"
