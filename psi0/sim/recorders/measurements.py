"""What the real robot's recorder would have measured in a simulated world, under its published keys.

Poses are 4x4 in the pelvis frame [m]; quaternions have w first; rpy are roll, pitch, yaw [rad].
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from psi0.robot.hand_kinematics import FINGER_TIPS, tip_along_link
from psi0.robot.layout import SIDES
from psi0.robot.model import HEAD_CAMERA
from psi0.sim.world import World

ROBOT_TYPE = "g1"


def states(world: World) -> dict[str, Any]:
    """The `states` of a frame: arm 14, leg and waist 15, hand 14 [rad], IMU, odometry."""
    upper, data = world.body.upper_position(), world.data
    quaternion = data.qpos[3:7]
    roll_pitch_yaw = _rpy(_rotation(quaternion))
    return {
        "arm_state": upper[14:],
        "leg_state": world.body.lower_position(),
        "hand_state": upper[:14],
        "hand_pressure_state": [],
        "imu": {
            "quaternion": quaternion,
            "accelerometer": _rotation(quaternion).T @ np.array([0.0, 0.0, 9.81]),
            "gyroscope": data.qvel[3:6],
            "rpy": roll_pitch_yaw,
        },
        "odometry": {
            "position": data.qpos[:3],
            "velocity": data.qvel[:3],
            "rpy": roll_pitch_yaw,
            "quat": quaternion,
        },
        "robot_type": ROBOT_TYPE,
    }


def _rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    return Rotation.from_quat(quaternion, scalar_first=True).as_matrix()


def _rpy(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    return Rotation.from_matrix(rotation).as_euler("xyz")


def _in_pelvis(world: World, position: NDArray[np.float64], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    pelvis, pose = world.data.body("pelvis"), np.eye(4)
    axes = pelvis.xmat.reshape(3, 3)
    pose[:3, :3], pose[:3, 3] = axes.T @ rotation, axes.T @ (position - pelvis.xpos)
    return pose


def wrist_pose(world: World, side: str) -> NDArray[np.float64]:
    """Measured pose `(4, 4)` of a hand's base in the pelvis frame."""
    wrist = world.data.body(f"{side}_wrist_yaw_link")
    return _in_pelvis(world, wrist.xpos, wrist.xmat.reshape(3, 3))


def head_camera_pose(world: World) -> NDArray[np.float64]:
    """Pose `(4, 4)` of the head camera in the pelvis frame: x right, y down, z forward."""
    camera = world.data.camera(HEAD_CAMERA)
    return _in_pelvis(world, camera.xpos, camera.xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0]))


def wrists(world: World) -> dict[str, Any]:
    """`wrists` of a Humanoid Everyday frame: xyz [m] and rpy [rad] per side in the pelvis frame."""
    poses = {side: wrist_pose(world, side) for side in SIDES}
    return {side: {"xyz": pose[:3, 3], "rpy": _rpy(pose[:3, :3])} for side, pose in poses.items()}


def finger_tips(world: World) -> dict[str, Any]:
    """`hands` of a Humanoid Everyday frame: xyz [m] per finger tip in the pelvis frame, `left_thumb` and so on."""
    tips = {}
    for side in SIDES:
        for finger, link in FINGER_TIPS.items():
            body = world.data.body(f"{side}_hand_{link}_link")
            position = body.xpos + body.xmat.reshape(3, 3) @ tip_along_link(side, finger)
            tips[f"{side}_{finger}"] = {"xyz": _in_pelvis(world, position, np.eye(3))[:3, 3]}
    return tips
