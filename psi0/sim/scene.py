"""What a scene is made of: floor, light, table, things to grasp and things that only stand about."""

import numpy as np

from psi0.robot.physics import mujoco

TABLE_HEIGHT = 0.74
"""Top of the table above the floor [m]."""
TABLE_DEPTH, TABLE_WIDTH = 0.5, 1.0
"""The table's front edge lies on x = 0; it is centred on y = 0 [m]."""
_BESIDE = 0.2
THIRD_PERSON_CAMERA = "third_person"
FLOOR_MATERIAL = "floor"

_BOX, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
_TABLE_TOP = 0.04
_LEG = 0.06
_PAINT = 0.002
_LONGER_LEGS = 0.1
_OBJECT_FRICTION = [1.0, 0.02, 0.001]


def add_room(spec: mujoco.MjSpec) -> None:
    """A checkered floor, a light, and a camera for people; the task says where that one stands."""
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10
    spec.visual.global_.offwidth = spec.visual.global_.offheight = 1280
    spec.visual.quality.offsamples = 0
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.93, 0.95, 0.97],
        rgb2=[0.60, 0.66, 0.74],
        width=128,
        height=768,
    )
    spec.visual.rgba.haze = [0.75, 0.79, 0.84, 1.0]
    spec.add_texture(
        name=FLOOR_MATERIAL,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.95, 0.95, 0.95],
        rgb2=[0.62, 0.62, 0.62],
        width=300,
        height=300,
    )
    material = spec.add_material(name=FLOOR_MATERIAL, texrepeat=[5, 5], texuniform=True, reflectance=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = FLOOR_MATERIAL
    world = spec.worldbody
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 0.05],
        material=FLOOR_MATERIAL,
        friction=[0.8, 0.005, 0.0001],
    )
    world.add_light(name="lamp", pos=[-0.6, -0.8, 3.0], dir=[0.25, 0.3, -1.0], castshadow=True)
    world.add_camera(name=THIRD_PERSON_CAMERA, fovy=39)


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Quaternion `(4,)` of a camera at `position` that looks at `target`, upright."""
    backward = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(backward, right), backward], axis=1).flatten())
    return quaternion


def add_table(spec: mujoco.MjSpec, adjustable: bool = False) -> None:
    """A table that does not move: geoms `table` (its top) and `table_leg_0`, `table_leg_1`.

    An `adjustable` one is a body `table` too, to be placed with its top at another height for each episode; what its
    legs have too much then goes into the floor.
    """
    body, top, leg_height = spec.worldbody, TABLE_HEIGHT, TABLE_HEIGHT - _TABLE_TOP
    if adjustable:
        body, top = spec.worldbody.add_body(name="table", mocap=True, pos=[0, 0, TABLE_HEIGHT]), 0.0
        leg_height += _LONGER_LEGS
    body.add_geom(
        name="table",
        type=_BOX,
        pos=[TABLE_DEPTH / 2, 0, top - _TABLE_TOP / 2],
        size=[TABLE_DEPTH / 2, TABLE_WIDTH / 2, _TABLE_TOP / 2],
        friction=[0.8, 0.005, 0.0001],
    )
    for index, y in enumerate((-0.45, 0.45)):
        body.add_geom(
            name=f"table_leg_{index}",
            type=_BOX,
            pos=[0.3, y, top - _TABLE_TOP - leg_height / 2],
            size=[_LEG / 2, _LEG / 2, leg_height / 2],
        )


def edge_beside(position: np.ndarray, height: float) -> np.ndarray:
    """Two points `(2, 3)` on the front edge of a table of some height, 20 cm to the left and right of a thing [m]."""
    return np.array([[0.0, position[1] + _BESIDE, height], [0.0, position[1] - _BESIDE, height]])


def add_can(spec: mujoco.MjSpec, name: str, radius: float, half_height: float, mass: float) -> None:
    """An upright cylinder that moves freely: body, free joint and geom all called `name` [m, kg]."""
    body = spec.worldbody.add_body(name=name, pos=[0.15, 0, TABLE_HEIGHT + half_height])
    body.add_freejoint(name=name)
    body.add_geom(
        name=name,
        type=_CYLINDER,
        size=[radius, half_height, 0],
        mass=mass,
        friction=_OBJECT_FRICTION,
        condim=4,
    )


def add_bystander(spec: mujoco.MjSpec, name: str, shape: str, size: tuple[float, float, float]) -> None:
    """A solid thing placed anew each episode that does not move: `box` or `cylinder` (radius, half height) [m]."""
    body = spec.worldbody.add_body(name=name, mocap=True, pos=[0.4, 0, TABLE_HEIGHT + size[2]])
    if shape == "box":
        body.add_geom(name=name, type=_BOX, size=list(size))
    else:
        body.add_geom(name=name, type=_CYLINDER, size=[size[0], size[2], 0])


def add_mark(spec: mujoco.MjSpec, name: str, radius: float) -> None:
    """A disc painted on whatever it is placed on: body (placed by hand) and geom called `name` [m]."""
    body = spec.worldbody.add_body(name=name, mocap=True)
    body.add_geom(name=name, type=_CYLINDER, size=[radius, _PAINT / 2, 0], contype=0, conaffinity=0)


def rotation_z(angle: float) -> np.ndarray:
    """Rotation `(3, 3)` about the vertical [rad]."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def quaternion_z(angle: float) -> np.ndarray:
    """Quaternion `(4,)`, w first, about the vertical [rad]."""
    return np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])
