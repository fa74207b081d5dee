"""Push the cart: walk up, take its grips with both hands, steer it round a bend into the bay, stop there."""

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from psi0.robot.angles import wrapped
from psi0.robot.physics import mujoco
from psi0.sim.furniture import (
    BAY_HALF_LENGTH,
    BAY_HALF_WIDTH,
    GRIP_HEIGHT,
    GRIP_X,
    GRIP_Y,
    LOAD_FRONT,
    LOAD_HALF_WIDTH,
    LOAD_TOP,
    add_bay,
    add_cart,
    on_floor,
)
from psi0.sim.scene import add_bystander, quaternion_z
from psi0.sim.tasks.base import HANDS, FailureTag, Progress, Start, Task, View
from psi0.sim.tasks.choice import Color
from psi0.sim.tasks.poses import Poses

CART_X, CART_Y, CART_YAW = (0.60, 0.80), (-0.15, 0.15), (-0.25, 0.25)
ROBOT_X, ROBOT_Y, ROBOT_YAW = (-0.50, -0.25), (-0.15, 0.15), (-0.30, 0.30)
AHEAD, BEND, SKEW = (1.10, 1.40), (0.35, 0.60), (-0.08, 0.08)
"""How far before the cart the bay lies [m], the turn of the arc that leads there, left or right, and how much the
bay is turned out of the arc's end [rad]. The bay is 0.2 to 0.43 m off the cart's way straight ahead."""
NEAR, ALIGNED = 0.15, 0.25
"""How far the cart may stand from the bay's middle [m] and be turned in it [rad]."""
MOVED = 0.3
"""The cart counts as pushed once it is so far from where it stood, with both hands on it [m]."""
REST_SECONDS = 1.0

_AHEAD, _BEND = sum(AHEAD) / 2, sum(BEND) / 2
_AT_REST, _HALF = 0.05, 0.5
_BYSTANDERS = {"carton": ("box", (0.15, 0.20, 0.20)), "barrel": ("cylinder", (0.15, 0.15, 0.30))}
_GREEN: Color = ((0.33, 0.42), (0.75, 1.0), (0.5, 0.8))
_ON_CART = np.array(
    [
        [GRIP_X, GRIP_Y, GRIP_HEIGHT],
        [GRIP_X, -GRIP_Y, GRIP_HEIGHT],
        [LOAD_FRONT, LOAD_HALF_WIDTH, LOAD_TOP],
        [LOAD_FRONT, -LOAD_HALF_WIDTH, LOAD_TOP],
    ]
)
_BAY_FRONT = np.array([[-BAY_HALF_LENGTH, y, 0.0] for y in (BAY_HALF_WIDTH, -BAY_HALF_WIDTH)])


class PushCart(Task):
    """Success: pushed with both hands, the cart stands in the bay within 15 cm and 0.25 rad for one second."""

    name = "push_cart"
    seconds = 35.0
    instructions: ClassVar[tuple[str, ...]] = (
        "Push the cart into the bay.",
        "Park the cart between the posts.",
        "Steer the cart onto the green field.",
    )
    evaluation_instructions: ClassVar[tuple[str, ...]] = ("Push the cart onto the green mark.",)
    object_name = "cart"
    average_place = (sum(CART_X) / 2, sum(CART_Y) / 2, 0.0)
    average_mark = ((sum(CART_X) / 2 + _AHEAD, _AHEAD * math.tan(_BEND / 2)), _BEND)
    """Where the bay is on average when it lies to the left: position [m] and yaw [rad]."""
    average_start = Start(sum(ROBOT_X) / 2, sum(ROBOT_Y) / 2, sum(ROBOT_YAW) / 2)
    key_point_names = ("grip_left", "grip_right", "mark", "bay_left", "bay_right", "load_left", "load_right")
    side_view = ((2.60, -3.90, 2.30), (0.95, 0.10, 0.45))
    colors: ClassVar[dict[str, Color]] = {
        "mark": _GREEN,
        "mark_post_0": _GREEN,
        "mark_post_1": _GREEN,
        "cart_load": ((0.05, 0.12), (0.3, 0.6), (0.5, 0.8)),
    }

    def build(self, spec: mujoco.MjSpec) -> None:
        """The cart, the bay, and two things that stand far from the way."""
        add_cart(spec, "cart")
        add_bay(spec, "mark")
        for name, (shape, size) in _BYSTANDERS.items():
            add_bystander(spec, name, shape, size)

    def place(self, view: View, poses: Poses) -> Start:
        """Draw the robot's start, the cart, and the bay at the end of a bend before it."""
        start = Start(poses.within(*ROBOT_X), poses.within(*ROBOT_Y), poses.within(*ROBOT_YAW))
        cart, yaw = np.array([poses.within(*CART_X), poses.within(*CART_Y), 0.001]), poses.within(*CART_YAW)
        view.place("cart", cart, quaternion_z(yaw))
        ahead, bend = poses.within(*AHEAD), poses.within(*BEND) * poses.side()
        mark = on_floor((cart[0], cart[1]), yaw, np.array([[ahead, ahead * np.tan(bend / 2), 0.0]]))[0]
        view.place("mark", mark, quaternion_z(yaw + bend + poses.uniform(*SKEW)))
        for name, side in zip(_BYSTANDERS, (-1.0, 1.0), strict=True):
            spot = np.array([poses.uniform(0.8, 2.6), side * poses.uniform(1.3, 1.8), _BYSTANDERS[name][1][2]])
            view.place(name, spot, quaternion_z(poses.uniform(-np.pi, np.pi)))
        return start

    def settled(self, view: View) -> bool:
        """The cart stands on its casters and nobody touches it."""
        return view.upright("cart") > 0.999 and view.speed("cart") < 0.02 and not view.touching("cart", HANDS)

    def key_points(self, view: View) -> NDArray[np.float64]:
        """The two grips, the bay's middle, its two corners on the cart's side, and the load's upper front corners, that
        tell how the cart is turned `(7, 3)` [m]."""
        cart, mark = view.position("cart"), view.position("mark")
        on_cart = on_floor((cart[0], cart[1]), view.heading("cart"), _ON_CART)
        corners = on_floor((mark[0], mark[1]), view.heading("mark"), _BAY_FRONT)
        return np.concatenate([on_cart[:2], mark[None], corners, on_cart[2:]])

    def update(self, view: View, progress: Progress, seconds: float) -> None:
        """Note touch and the way made with both hands; end with success after one second in the bay."""
        held = all(view.touching("cart", (hand,)) for hand in HANDS)
        progress.touched |= held or view.touching("cart", HANDS)
        off = view.position("mark") - view.position("cart")
        progress.lifted |= held and bool(np.linalg.norm(off[:2]) < progress.farthest - MOVED)
        progress.farthest = max(progress.farthest, float(np.linalg.norm(off[:2])))
        turn = wrapped(view.heading("mark") - view.heading("cart"))
        parked = np.linalg.norm(off[:2]) <= NEAR and abs(turn) <= ALIGNED
        at_rest = view.speed("cart") < _AT_REST
        progress.misplaced = progress.lifted and at_rest and not parked
        progress.held_seconds = progress.held_seconds + seconds if progress.lifted and parked and at_rest else 0.0
        if progress.held_seconds >= REST_SECONDS - 1e-9:
            progress.ended = "success"

    def attempted(self, view: View, first_key_points: NDArray[np.float64]) -> bool:
        """Half the push: the robot has walked half the way from where the grips were to the bay."""
        grips, mark = first_key_points[:2, :2].mean(axis=0), first_key_points[2, :2]
        way = mark - grips
        return float((view.position("pelvis")[:2] - grips) @ way / (way @ way)) >= _HALF

    def tag_at_timeout(self, progress: Progress) -> FailureTag:
        """How far it came."""
        if not progress.touched:
            return "not_reached"
        if not progress.lifted:
            return "not_grasped"
        return "missed_place" if progress.misplaced else "timeout"
