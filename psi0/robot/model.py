"""The G1 with two Dex3-1 hands as a MuJoCo specification, ready to be put into a scene."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from psi0.errors import Psi0Error
from psi0.robot.constants import (
    BODY_FRICTION_LOSS,
    HAND_FRICTION_LOSS,
    HEAD_CAMERA_FIELD_OF_VIEW,
    HEAD_CAMERA_PITCH,
    HEAD_CAMERA_POSITION,
    armature,
    servo_gains,
)
from psi0.robot.layout import ALL_JOINTS, HAND_JOINTS
from psi0.robot.physics import mujoco

MODEL_FILE = "g1_with_hands.xml"
HEAD_CAMERA = "head"
TORSO = "torso_link"
"""The body that carries arms and head camera."""
_FOOT_FRICTION = [0.8, 0.005, 0.0001]
_HAND_FRICTION = [1.2, 0.02, 0.001]


def camera_orientation(pitch: float) -> np.ndarray:
    """Quaternion `(4,)` of a MuJoCo camera that looks along +x, pitched down by `pitch` [rad]."""
    backward = -np.array([np.cos(pitch), 0.0, -np.sin(pitch)])
    right = np.array([0.0, -1.0, 0.0])
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(backward, right), backward], axis=1).flatten())
    return quaternion


def read_model(folder: Path) -> mujoco.MjSpec:
    """The model file of a robot folder as it is. Raises `Psi0Error` when it is missing or does not parse."""
    path = folder / MODEL_FILE
    if not path.is_file():
        raise Psi0Error(f"{path} is missing; run the stage that makes it (`dvc repro robot`)")
    try:
        return mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise Psi0Error(f"{path} cannot be read ({error}); rebuild it with `dvc repro -f robot`") from None


def _set_servo(actuator: mujoco.MjsActuator, stiffness: float, damping: float) -> None:
    gain, bias = np.zeros(10), np.zeros(10)
    gain[0], bias[1], bias[2] = stiffness, -stiffness, -damping
    actuator.gainprm, actuator.biasprm = gain, bias
    actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    actuator.inheritrange, actuator.ctrllimited = 0, False


def robot_spec(folder: Path, gains: Mapping[str, tuple[float, float]] | None = None) -> mujoco.MjSpec:
    """The robot with servo gains, rotor inertias, friction and the head camera.

    `gains`: stiffness [N m / rad] and damping [N m s / rad] of joints whose servos are not those of `servo_gains`.
    It collides with the world and with itself.
    Torque limits are those of the model (`actuatorfrcrange`).
    """
    spec = read_model(folder)
    for joint in spec.joints:
        if joint.name in ALL_JOINTS:
            joint.armature = armature(joint.name)
            joint.frictionloss = HAND_FRICTION_LOSS if joint.name in HAND_JOINTS else BODY_FRICTION_LOSS
    for actuator in spec.actuators:
        _set_servo(actuator, *(gains or {}).get(actuator.target, servo_gains(actuator.target)))
    for geom in spec.geoms:
        if not geom.contype:
            continue
        if geom.type == mujoco.mjtGeom.mjGEOM_SPHERE:
            geom.friction = _FOOT_FRICTION
        geom.contype, geom.conaffinity = 1, 1
        if "_hand_" in geom.parent.name:
            geom.friction, geom.condim = _HAND_FRICTION, 4
    camera = spec.body(TORSO).add_camera(
        name=HEAD_CAMERA, pos=list(HEAD_CAMERA_POSITION), fovy=HEAD_CAMERA_FIELD_OF_VIEW[1]
    )
    camera.quat = camera_orientation(HEAD_CAMERA_PITCH)
    return spec


def head_camera_field_of_view(height: int, width: int) -> float:
    """Vertical field of view [degrees] of a head-camera picture: the largest cut of its shape from the sensor's view.

    The sensor sees 69 x 42 degrees. A 4:3 picture loses its sides (54 x 42), one wider than the sensor its top and
    bottom.
    """
    across, down = np.tan(np.deg2rad(HEAD_CAMERA_FIELD_OF_VIEW) / 2)
    return float(np.rad2deg(2 * np.arctan(min(down, across * height / width))))
