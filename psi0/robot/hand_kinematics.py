"""Forward kinematics of both hands: where wrists and finger tips are for the angles of arms and fingers.

Everything is in the frame of `torso_link`, so that neither the legs nor the waist matter.
"""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0.robot.layout import UPPER_BODY_JOINTS
from psi0.robot.model import TORSO, read_model
from psi0.robot.physics import mujoco

FINGER_TIPS = {"thumb": "thumb_2", "index": "index_1", "middle": "middle_1"}
"""The last link of every finger of a Dex3-1."""
_TIP_ALONG_LINK = {"thumb": (0.0, 0.045, 0.0), "index": (0.045, 0.0, 0.0), "middle": (0.045, 0.0, 0.0)}
"""Finger tips in the frames of their last links, right hand [m]; the left thumb points the other way."""


def tip_along_link(side: str, finger: str) -> NDArray[np.float64]:
    """A finger tip `(3,)` in the frame of the finger's last link [m]."""
    return np.array(_TIP_ALONG_LINK[finger]) * (-1.0 if finger == "thumb" and side == "left" else 1.0)


def hand_poses(
    folder: Path, side: str, joints: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wrist and finger tips of one hand.

    Args:
        folder: of the robot model (output of the stage `robot`).
        side: `left` or `right`.
        joints: angles `(frames, 28)` of `UPPER_BODY_JOINTS` [rad].

    Returns:
        Pose of `<side>_wrist_yaw_link` `(frames, 4, 4)`, and the tips of thumb, index and middle finger
        `(frames, 3, 3)`, in `torso_link` [m].

    Raises:
        Psi0Error: the model is missing or broken.
    """
    model = _skeleton(folder.resolve())
    data = mujoco.MjData(model)
    places = [model.joint(name).qposadr[0] for name in UPPER_BODY_JOINTS]
    torso, wrist = (model.body(name).id for name in (TORSO, f"{side}_wrist_yaw_link"))
    links = [model.body(f"{side}_hand_{link}_link").id for link in FINGER_TIPS.values()]
    along = [tip_along_link(side, finger) for finger in FINGER_TIPS]
    wrists, tips = np.tile(np.eye(4), (len(joints), 1, 1)), np.empty((len(joints), len(links), 3))
    for frame, angles in enumerate(joints):
        data.qpos[places] = angles
        mujoco.mj_kinematics(model, data)
        axes, origin = data.xmat[torso].reshape(3, 3), data.xpos[torso]
        wrists[frame, :3, :3] = axes.T @ data.xmat[wrist].reshape(3, 3)
        wrists[frame, :3, 3] = axes.T @ (data.xpos[wrist] - origin)
        for finger, (link, offset) in enumerate(zip(links, along, strict=True)):
            tips[frame, finger] = axes.T @ (data.xpos[link] + data.xmat[link].reshape(3, 3) @ offset - origin)
    return wrists, tips


@cache
def _skeleton(folder: Path) -> mujoco.MjModel:
    """The robot without shapes: what moves is all that matters here."""
    spec = read_model(folder)
    for element in [*spec.keys, *spec.actuators, *spec.sensors, *spec.geoms, *spec.meshes]:
        spec.delete(element)
    return spec.compile()
