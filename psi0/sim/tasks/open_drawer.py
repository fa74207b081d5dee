"""Open the drawer: walk up to the cabinet, hook the hand round the handle, walk back with it."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from psi0.robot.physics import mujoco
from psi0.sim.furniture import (
    CABINET_TOP,
    DRAWER_HALF_HEIGHT,
    DRAWER_HALF_WIDTH,
    DRAWER_HEIGHT,
    HANDLE_OUT,
    add_cabinet,
)
from psi0.sim.scene import add_bystander, quaternion_z
from psi0.sim.tasks.base import HANDS, FailureTag, Progress, Start, Task, View
from psi0.sim.tasks.choice import Color
from psi0.sim.tasks.poses import Poses

ROBOT_X, ROBOT_Y, ROBOT_YAW = (-0.80, -0.55), (-0.25, 0.25), (-0.25, 0.25)
"""Where the robot may start: the cabinet's front is x = 0, its middle y = 0 [m, rad]."""
OPEN, BEGUN = 0.15, 0.03
"""The drawer counts as open, or as begun to open, from here on [m]."""
HOLD_SECONDS = 1.0

_BYSTANDERS = {"carton": ("box", (0.05, 0.07, 0.08)), "jar": ("cylinder", (0.04, 0.04, 0.06))}
_WOOD: Color = ((0.05, 0.12), (0.2, 0.5), (0.5, 0.8))
_CORNERS = np.array([[0.0, y, -DRAWER_HALF_HEIGHT] for y in (DRAWER_HALF_WIDTH, -DRAWER_HALF_WIDTH)])
"""Lower corners of the drawer's front, from its middle [m]."""


class OpenDrawer(Task):
    """Success: the drawer stands open by 15 cm or more for one second; robot upright."""

    name = "open_drawer"
    seconds = 45.0
    instructions: ClassVar[tuple[str, ...]] = (
        "Open the drawer.",
        "Pull the drawer open.",
        "Grasp the handle and open the drawer.",
    )
    evaluation_instructions: ClassVar[tuple[str, ...]] = ("Pull out the drawer.",)
    object_name = "drawer"
    average_place = (-HANDLE_OUT, 0.0, DRAWER_HEIGHT)
    average_start = Start(sum(ROBOT_X) / 2, sum(ROBOT_Y) / 2, sum(ROBOT_YAW) / 2)
    key_point_names = ("handle", "drawer_left", "drawer_right")
    side_view = ((-1.30, -2.10, 1.45), (-0.15, -0.05, 0.72))
    colors: ClassVar[dict[str, Color]] = {
        **{f"cabinet_{part}": _WOOD for part in ("base", "top", "side_0", "side_1")},
        "drawer": ((0.05, 0.12), (0.2, 0.5), (0.7, 0.95)),
    }

    def build(self, spec: mujoco.MjSpec) -> None:
        """The cabinet with its drawer, and two things that stand on it."""
        add_cabinet(spec, "drawer")
        for name, (shape, size) in _BYSTANDERS.items():
            add_bystander(spec, name, shape, size)

    def place(self, view: View, poses: Poses) -> Start:
        """Draw where the robot stands before the cabinet, and what stands on it."""
        start = Start(poses.within(*ROBOT_X), poses.within(*ROBOT_Y), poses.within(*ROBOT_YAW))
        for (name, (_, size)), y in zip(_BYSTANDERS.items(), (-0.15, 0.15), strict=True):
            spot = [poses.uniform(0.15, 0.40), y + poses.uniform(-0.07, 0.07), CABINET_TOP + size[2]]
            view.place(name, np.array(spot), quaternion_z(poses.uniform(-np.pi, np.pi)))
        return start

    def settled(self, view: View) -> bool:
        """The drawer is shut and nobody touches it."""
        return view.slid("drawer") < 0.005 and not view.touching("drawer", HANDS)

    def key_points(self, view: View) -> NDArray[np.float64]:
        """The handle and the lower corners of the drawer's front `(3, 3)` [m]."""
        drawer = view.position("drawer")
        return np.concatenate([[drawer - np.array([HANDLE_OUT, 0.0, 0.0])], drawer + _CORNERS])

    def update(self, view: View, progress: Progress, seconds: float) -> None:
        """Note touch and the first centimetres; end with success after one second open."""
        opened = view.slid("drawer")
        progress.touched |= view.touching("drawer", HANDS)
        progress.lifted |= progress.touched and opened >= BEGUN
        progress.held_seconds = progress.held_seconds + seconds if opened >= OPEN else 0.0
        if progress.touched and progress.held_seconds >= HOLD_SECONDS - 1e-9:
            progress.ended = "success"

    def remove(self, view: View) -> None:
        """A drawer is part of its cabinet."""
        raise ValueError("the drawer is part of its cabinet")

    def tag_at_timeout(self, progress: Progress) -> FailureTag:
        """How far it came."""
        if not progress.touched:
            return "not_reached"
        return "timeout" if progress.lifted else "not_grasped"
