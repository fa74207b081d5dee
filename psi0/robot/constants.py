"""Numbers of the simulated G1 that are in no file: gains, rotor inertias, poses, the head camera's mount.

Sources: servo gains are those in the metadata of the System-0 network (`tests/code/test_robot.py` compares them);
rotor inertias are those it was trained with (holosoma's g1_29dof model); the rest was found in closed-loop trials.
"""

import numpy as np

from psi0.robot.layout import ARM_JOINTS, HAND_JOINTS, LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS

TICK_HZ = 50
"""Rate of System-0 [Hz]."""

_LEG_GAINS = {
    "hip_pitch": (40.179238471, 2.557889765),
    "hip_roll": (99.098427777, 6.308801854),
    "hip_yaw": (40.179238471, 2.557889765),
    "knee": (99.098427777, 6.308801854),
    "ankle": (28.501246196, 1.814445687),
    "waist_yaw": (40.179238471, 2.557889765),
    "waist_roll": (28.501246196, 1.814445687),
    "waist_pitch": (28.501246196, 1.814445687),
}
_ARM_GAINS = {"wrist_pitch": (16.778327481, 1.068141502), "wrist_yaw": (16.778327481, 1.068141502)}
_OTHER_ARM_GAINS = (14.250623098, 0.907222843)
ARM_STIFFENING = 5.0
"""Arm servos are this much stiffer than System-0's training had them; reaching at its gains sags by centimetres."""
HAND_GAINS = (2.5, 0.08)

_ARMATURE = {
    "hip_pitch": 0.01017752,
    "hip_roll": 0.025101925,
    "hip_yaw": 0.01017752,
    "knee": 0.025101925,
    "ankle": 0.00721945,
    "waist_yaw": 0.01017752,
    "waist": 0.00721945,
    "wrist_roll": 0.003609725,
    "wrist": 0.00425,
    "hand": 0.001,
}
_OTHER_ARMATURE = 0.003609725
BODY_FRICTION_LOSS = 0.1
"""Dry friction of body joints [N m]."""
HAND_FRICTION_LOSS = 0.01
"""Dry friction of finger joints [N m]."""


def servo_gains(joint: str) -> tuple[float, float]:
    """Position-servo gains of a joint: stiffness [N m / rad], damping [N m s / rad]."""
    if joint in HAND_JOINTS:
        return HAND_GAINS
    if joint in ARM_JOINTS:
        stiffness, damping = next((g for part, g in _ARM_GAINS.items() if part in joint), _OTHER_ARM_GAINS)
        return stiffness * ARM_STIFFENING, damping * float(np.sqrt(ARM_STIFFENING))
    return next(gains for part, gains in _LEG_GAINS.items() if part in joint)


def armature(joint: str) -> float:
    """Rotor inertia reflected at a joint [kg m^2]."""
    return next((value for part, value in _ARMATURE.items() if part in joint), _OTHER_ARMATURE)


DEFAULT_LOWER_BODY = np.array([-0.312, 0.0, 0.0, 0.669, -0.363, 0.0] * 2 + [0.0, 0.0, 0.0])
"""System-0's neutral pose of `LOWER_BODY_JOINTS` `(15,)` [rad]."""
DEFAULT_ARMS = np.array([0.2, 0.2, 0.0, 0.6, 0.0, 0.0, 0.0, 0.2, -0.2, 0.0, 0.6, 0.0, 0.0, 0.0])
"""System-0's neutral pose of `ARM_JOINTS` `(14,)` [rad]."""
READY_ARMS = np.array([0.7, 0.5, 0.0, -0.9, 0.0, 0.0, 0.0, 0.7, -0.5, 0.0, -0.9, 0.0, 0.0, 0.0])
"""Elbows bent, hands beside the hips and above a table's edge: how the robot walks up to a table `(14,)` [rad]."""

_OPEN = {"thumb_1": 0.3}
_CLOSED = {"thumb_1": -0.7, "thumb_2": -1.0, "index_0": 1.3, "index_1": 1.2, "middle_0": 1.3, "middle_1": 1.2}


def _hand_pose(pose: dict[str, float], joints: tuple[str, ...], sign: float) -> np.ndarray:
    """A pose of the right hand, mirrored for the left; thumb_0 turns about an axis that mirrors onto itself."""
    return np.array([sign * next((v for part, v in pose.items() if part in joint), 0.0) for joint in joints])


OPEN_LEFT, OPEN_RIGHT = _hand_pose(_OPEN, LEFT_HAND_JOINTS, -1.0), _hand_pose(_OPEN, RIGHT_HAND_JOINTS, 1.0)
CLOSED_LEFT, CLOSED_RIGHT = (
    _hand_pose(_CLOSED, LEFT_HAND_JOINTS, -1.0),
    _hand_pose(_CLOSED, RIGHT_HAND_JOINTS, 1.0),
)
"""Finger poses `(7,)` in each hand's own order [rad]."""

NOMINAL_HEIGHT = 0.756
"""Height of the pelvis above the floor while standing [m]."""
CROUCH = ((0.584, 0.638, 0.707, 0.756), (0.4, 0.3, 0.15, 0.0))
"""Pelvis height [m] against the knee bend [rad] that reaches it; measured standing."""

COMMAND_LIMITS = {
    "torso_roll": (-0.52, 0.52),
    "torso_pitch": (-0.52, 0.52),
    "torso_yaw": (-1.5, 1.5),
    "height": (0.55, 0.80),
    "velocity_x": (-1.0, 1.0),
    "velocity_y": (-1.0, 1.0),
    "velocity_yaw": (-1.0, 1.0),
    "target_yaw": (-3.15, 3.15),
}
"""What System-0 may be asked for. Walking holds at a height of 0.71 m and above; torso pitch works while standing."""
STANDING_DEAD_ZONE, SETTING_OFF = 0.12, 0.2
"""Velocity commands all below the first mean standing, and a robot that stands sets off at the second [m/s, rad/s]:
every start and stop of the feet moves it by a tenth of a metre."""

HEAD_CAMERA_POSITION = (0.0576235, 0.01753, 0.42987)
"""Head camera (RealSense D435i) in `torso_link` [m], from `d435_joint` of Unitree's URDF."""
HEAD_CAMERA_PITCH = 0.8307767
"""Downward pitch of the head camera [rad], from the same joint."""
HEAD_CAMERA_FIELD_OF_VIEW = (69.0, 42.0)
"""Horizontal and vertical field of view of the D435i's colour sensor [degrees]."""

GRASP_POINT = {"left": (0.115, -0.042, 0.0), "right": (0.115, 0.042, 0.0)}
"""Point between the fingers and the thumb, in the frame of `<side>_wrist_yaw_link` [m]."""
