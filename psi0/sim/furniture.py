"""Furniture that moves: a cart on casters with the bay it is parked in, and a cabinet with a drawer."""

import numpy as np

from psi0.robot.physics import mujoco

GRIP_X, GRIP_Y, GRIP_HEIGHT = -0.27, 0.20, 0.88
"""Where the cart's two upright grips are held, in its frame: x forward, y to the left, floor at 0 [m]."""
LOAD_FRONT, LOAD_HALF_WIDTH, LOAD_TOP = 0.28, 0.17, 0.41
"""The upper front edge of what the cart carries, in its frame [m]."""
DRAWER_HEIGHT, HANDLE_OUT = 0.87, 0.065
"""Middle of the drawer above the floor; how far its handle stands out of the cabinet's front, which is x = 0 [m]."""
CABINET_WIDTH, CABINET_TOP = 0.60, 1.05
BAY_HALF_LENGTH, BAY_HALF_WIDTH = 0.38, 0.30
"""The painted field of a bay, in its frame: x along the cart's way, y across it [m]."""
DRAWER_HALF_WIDTH, DRAWER_HALF_HEIGHT = CABINET_WIDTH / 2 - 0.03, 0.135
_POST_X, _POST_Y, _POST_HEIGHT = 0.42, 0.36, 0.70

_BOX, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
_GRASP_FRICTION = [1.2, 0.02, 0.001]
_CASTER_RADIUS, _CASTER_DAMPING = 0.05, 0.003
_GREY, _BLACK, _WOOD = [0.35, 0.36, 0.38, 1.0], [0.08, 0.08, 0.08, 1.0], [0.78, 0.68, 0.55, 1.0]
_DRAWER_TRAVEL, _DRAWER_DAMPING, _DRAWER_FRICTION = 0.40, 8.0, 3.0


def add_cart(spec: mujoco.MjSpec, name: str) -> None:
    """A cart of 10 kg that rolls in every direction: body, free joint and deck called `name`, geoms `<name>_...`."""
    cart = spec.worldbody.add_body(name=name)
    cart.add_freejoint(name=name)
    for index, (x, y) in enumerate([(0.25, 0.19), (0.25, -0.19), (-0.15, 0.19), (-0.15, -0.19)]):
        caster = cart.add_body(name=f"{name}_caster_{index}", pos=[x, y, _CASTER_RADIUS])
        caster.add_joint(type=mujoco.mjtJoint.mjJNT_BALL, damping=[_CASTER_DAMPING] * 3, armature=0.0005)
        caster.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[_CASTER_RADIUS, 0, 0], mass=0.3, rgba=_BLACK, friction=[0.8, 0, 0]
        )
    cart.add_geom(name=name, type=_BOX, pos=[0.05, 0, 0.13], size=[0.26, 0.23, 0.02], mass=5.0)
    cart.add_geom(
        name=f"{name}_load",
        type=_BOX,
        pos=[LOAD_FRONT - 0.18, 0, LOAD_TOP - 0.13],
        size=[0.18, LOAD_HALF_WIDTH, 0.13],
        mass=3.0,
    )
    for side, y in (("left", GRIP_Y), ("right", -GRIP_Y)):
        cart.add_geom(
            name=f"{name}_grip_{side}",
            type=_CYLINDER,
            fromto=[GRIP_X, y, 0.60, GRIP_X, y, 1.02],
            size=[0.018, 0, 0],
            mass=0.3,
            rgba=_BLACK,
            friction=_GRASP_FRICTION,
            condim=4,
        )
        cart.add_geom(
            type=_CYLINDER, fromto=[-0.19, y, 0.14, GRIP_X, y, 0.60], size=[0.018, 0, 0], mass=0.3, rgba=_GREY
        )
    cart.add_geom(
        type=_CYLINDER, fromto=[GRIP_X, -GRIP_Y, 1.02, GRIP_X, GRIP_Y, 1.02], size=[0.018, 0, 0], mass=0.2, rgba=_GREY
    )


def add_bay(spec: mujoco.MjSpec, name: str) -> None:
    """A place on the floor for the cart, placed by hand: a painted field `name`, and two posts at its far corners."""
    bay = spec.worldbody.add_body(name=name, mocap=True)
    bay.add_geom(
        name=name, type=_BOX, pos=[0, 0, 0.001], size=[BAY_HALF_LENGTH, BAY_HALF_WIDTH, 0.001], contype=0, conaffinity=0
    )
    for index, y in enumerate((_POST_Y, -_POST_Y)):
        bay.add_geom(
            name=f"{name}_post_{index}",
            type=_CYLINDER,
            pos=[_POST_X, y, _POST_HEIGHT / 2],
            size=[0.025, _POST_HEIGHT / 2, 0],
        )


def add_cabinet(spec: mujoco.MjSpec, name: str) -> None:
    """A cabinet with a drawer called `name` (body, slide joint, front panel) that has an upright handle."""
    world = spec.worldbody
    half, depth, below, above = CABINET_WIDTH / 2, 0.25, 0.72, 1.01
    world.add_geom(name="cabinet_base", type=_BOX, pos=[depth, 0, below / 2], size=[depth, half, below / 2])
    world.add_geom(name="cabinet_top", type=_BOX, pos=[depth, 0, (above + CABINET_TOP) / 2], size=[depth, half, 0.02])
    for index, y in enumerate((half - 0.01, 0.01 - half)):
        world.add_geom(
            name=f"cabinet_side_{index}",
            type=_BOX,
            pos=[depth, y, (below + above) / 2],
            size=[depth, 0.01, (above - below) / 2],
        )
    drawer = world.add_body(name=name, pos=[0, 0, DRAWER_HEIGHT])
    drawer.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[-1, 0, 0],
        range=[0, _DRAWER_TRAVEL],
        limited=1,
        damping=[_DRAWER_DAMPING, 0, 0],
        frictionloss=_DRAWER_FRICTION,
    )
    drawer.add_geom(
        name=name, type=_BOX, pos=[0.01, 0, 0], size=[0.01, DRAWER_HALF_WIDTH, DRAWER_HALF_HEIGHT], mass=1.0
    )
    drawer.add_geom(
        type=_BOX, pos=[0.2, 0, -0.11], size=[0.2, half - 0.04, 0.01], mass=1.0, rgba=_WOOD, contype=0, conaffinity=0
    )
    drawer.add_geom(
        name=f"{name}_handle",
        type=_CYLINDER,
        pos=[-HANDLE_OUT, 0, 0],
        size=[0.012, 0.06, 0],
        mass=0.1,
        rgba=_BLACK,
        friction=_GRASP_FRICTION,
        condim=4,
    )
    for z in (-0.06, 0.06):
        drawer.add_geom(
            type=_BOX, pos=[-HANDLE_OUT / 2, 0, z], size=[HANDLE_OUT / 2, 0.008, 0.008], mass=0.02, rgba=_BLACK
        )


def on_floor(position: tuple[float, float], yaw: float, points: np.ndarray) -> np.ndarray:
    """Points `(n, 3)` of a thing that stands on the floor at `position` [m], turned by `yaw` [rad], in the world."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return points @ turn.T + np.array([*position, 0.0])
