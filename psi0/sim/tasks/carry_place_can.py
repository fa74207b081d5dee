"""Carry the can: grasp it, lift it, walk sideways along the table, set it down on the mark, let go, step back."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from psi0.robot.physics import mujoco
from psi0.sim.scene import (
    TABLE_WIDTH,
    add_bystander,
    add_can,
    add_mark,
    add_table,
    edge_beside,
    quaternion_z,
)
from psi0.sim.tasks.base import HANDS, FailureTag, Progress, Start, Task, View
from psi0.sim.tasks.choice import Color, spots_apart
from psi0.sim.tasks.poses import Poses

CAN_RADIUS, CAN_HALF_HEIGHT, CAN_MASS = 0.033, 0.06, 0.25
CAN_X, CAN_Y = (0.11, 0.21), (-0.30, -0.10)
MARK_X, MARK_Y, MARK_RADIUS = (0.13, 0.18), (0.15, 0.35), 0.07
"""Where can and mark may be on the table [m]; they are 25 cm apart or more, farther than the arm reaches standing."""
TWO_CANS_Y, TWO_MARKS_Y = (-0.36, -0.06), (0.14, 0.42)
CANS_APART, MARKS_APART = 0.22, 0.20
"""With two of a kind they lie in these ranges, and at least so far apart along the table's edge [m]."""
HEIGHTS = (0.62, 0.78)
"""Tops of the table above the floor [m]; one is drawn per episode."""
ROBOT_X, ROBOT_Y, ROBOT_YAW = (-0.60, -0.35), (-0.2, 0.2), (-0.25, 0.25)
LIFT_HEIGHT = 0.05
STEPPED_BACK = -0.28
"""The pelvis must end at least this far before the table's front edge, which is x = 0 [m]."""
REST_SECONDS = 1.0

_BYSTANDERS = {"carton": ("box", (0.035, 0.05, 0.07)), "jar": ("cylinder", (0.03, 0.03, 0.045))}
_BYSTANDER_X = (0.37, 0.44)
_CLEARANCE = 0.20
_FALLEN_BELOW = -0.05
UPRIGHT, _AT_REST = 0.95, 0.03


def is_on_mark(view: View) -> bool:
    """Whether the can's centre is on or above the mark."""
    return bool(np.linalg.norm((view.position("can") - view.position("mark"))[:2]) <= MARK_RADIUS)


class CarryPlaceCan(Task):
    """Success: lifted on the way, the can stands upright and untouched with its centre on the mark, the robot has
    stepped back, all for one second."""

    name = "carry_place_can"
    seconds = 40.0
    instructions: ClassVar[tuple[str, ...]] = (
        "Put the can on the mark.",
        "Carry the can to the disc.",
        "Place the can on the green disc.",
    )
    evaluation_instructions: ClassVar[tuple[str, ...]] = ("Move the can to the mark.",)
    choices: ClassVar[dict[str, str]] = {"can": "other_can", "mark": "other_mark"}
    naming_instructions: ClassVar[tuple[str, ...]] = (
        "Put the {can} can on the {mark} mark.",
        "Carry the {can} can to the {mark} disc.",
        "Place the {can} can on the {mark} disc.",
    )
    evaluation_naming_instructions: ClassVar[tuple[str, ...]] = ("Move the {can} can to the {mark} mark.",)
    object_name = "can"
    average_place = (sum(CAN_X) / 2, sum(CAN_Y) / 2, sum(HEIGHTS) / 2 + CAN_HALF_HEIGHT)
    average_mark = (sum(MARK_X) / 2, sum(MARK_Y) / 2, sum(HEIGHTS) / 2)
    average_start = Start(sum(ROBOT_X) / 2, sum(ROBOT_Y) / 2, sum(ROBOT_YAW) / 2)
    key_point_names = ("can", "mark", "edge_left", "edge_right")
    side_view = ((1.60, -1.60, 1.50), (-0.05, 0.05, 0.67))
    colors: ClassVar[dict[str, Color]] = {"mark": ((0.33, 0.42), (0.75, 1.0), (0.5, 0.8))}

    def build(self, spec: mujoco.MjSpec) -> None:
        """A table whose height varies, a can, a mark (or two of both), and two things at the far edge."""
        add_table(spec, adjustable=True)
        for can, mark in (("can", "mark"), ("other_can", "other_mark"))[: self.objects]:
            add_can(spec, can, CAN_RADIUS, CAN_HALF_HEIGHT, CAN_MASS)
            add_mark(spec, mark, MARK_RADIUS)
        for name, (shape, size) in _BYSTANDERS.items():
            add_bystander(spec, name, shape, size)

    def place(self, view: View, poses: Poses) -> Start:
        """Draw the table's height, the robot's start, cans and marks, and the bystanders out of their way."""
        start = Start(poses.within(*ROBOT_X), poses.within(*ROBOT_Y), poses.within(*ROBOT_YAW))
        height = poses.within(*HEIGHTS)
        view.place("table", np.array([0.0, 0.0, height]), quaternion_z(0.0))
        if self.objects == 1:
            cans, marks = [_spot(poses, CAN_X, CAN_Y)], [_spot(poses, MARK_X, MARK_Y)]
        else:
            cans = spots_apart(poses, lambda p: _spot(p, CAN_X, TWO_CANS_Y), CANS_APART)
            marks = spots_apart(poses, lambda p: _spot(p, MARK_X, TWO_MARKS_Y), MARKS_APART)
        for name, spot in zip(("can", "other_can"), cans, strict=False):
            can = np.array([*spot, height + CAN_HALF_HEIGHT + 0.001])
            view.place(name, can, quaternion_z(poses.uniform(-np.pi, np.pi)))
        for name, spot in zip(("mark", "other_mark"), marks, strict=False):
            view.place(name, np.array([*spot, height]), quaternion_z(0.0))
        taken = cans + marks
        for name, (_, size) in _BYSTANDERS.items():
            while True:
                spot = np.array([poses.uniform(*_BYSTANDER_X), poses.uniform(-0.42, 0.42) * TABLE_WIDTH])
                if all(np.linalg.norm(spot - other) > _CLEARANCE for other in taken):
                    break
            taken.append(spot)
            view.place(name, np.array([*spot, height + size[2]]), quaternion_z(poses.uniform(-np.pi, np.pi)))
        return start

    def settled(self, view: View) -> bool:
        """Every can stands upright on the table and does not move."""
        return all(
            _rests(view, can, 0.005) and not view.touching(can, HANDS) for can in ("can", "other_can")[: self.objects]
        )

    def key_points(self, view: View) -> NDArray[np.float64]:
        """The can's centre, the mark's, and the table's front edge to the can's left and right `(4, 3)` [m]."""
        can, height = view.position("can"), float(view.position("table")[2])
        return np.concatenate([can[None], view.position("mark")[None], edge_beside(can, height)])

    def update(self, view: View, progress: Progress, seconds: float) -> None:
        """Note touch, lift and where the can rests; end with success, with the wrong can up, or with the can down."""
        rise, touching = _rise(view, "can"), view.touching("can", HANDS)
        progress.touched |= touching
        progress.lifted |= touching and rise >= LIFT_HEIGHT
        released = progress.lifted and not touching
        placed = released and is_on_mark(view) and _rests(view, "can", 0.01)
        progress.misplaced = released and not placed and view.speed("can") < _AT_REST
        done = placed and view.position("pelvis")[0] <= STEPPED_BACK
        progress.held_seconds = progress.held_seconds + seconds if done else 0.0
        if progress.held_seconds >= REST_SECONDS - 1e-9:
            progress.ended = "success"
        elif rise < _FALLEN_BELOW:
            progress.ended = "dropped" if progress.lifted else "not_grasped"
        elif self.objects == 2 and _rise(view, "other_can") >= LIFT_HEIGHT and view.touching("other_can", HANDS):
            progress.ended = "wrong_object"

    def tag_at_timeout(self, progress: Progress) -> FailureTag:
        """How far it came."""
        if not progress.touched:
            return "not_reached"
        if not progress.lifted:
            return "not_grasped"
        return "missed_place" if progress.misplaced else "timeout"


def _spot(poses: Poses, x: tuple[float, float], y: tuple[float, float]) -> NDArray[np.float64]:
    return np.array([poses.within(*x), poses.within(*y)])


def _rise(view: View, can: str) -> float:
    """How high a can is above where it would stand on the table [m]."""
    return float(view.position(can)[2] - view.position("table")[2] - CAN_HALF_HEIGHT)


def _rests(view: View, can: str, within: float) -> bool:
    standing = abs(_rise(view, can)) < within and view.upright(can) > UPRIGHT
    return standing and view.speed(can) < _AT_REST
