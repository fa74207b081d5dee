"""Wrists and finger tips of robot episodes, computed from the joints where the files do not hold them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0.data.episode import BadEpisode
from psi0.data.features import FINGERS
from psi0.data.task_space import euler, rotation
from psi0.robot.layout import SIDES, STATE_SIZE, UPPER_BODY_JOINTS

JOINTS = len(UPPER_BODY_JOINTS)
Floats = NDArray[np.float64]


def complete(
    state: NDArray[np.float32],
    state_mask: tuple[float, ...] | None,
    wrists: NDArray[np.float32] | None,
    tips: NDArray[np.float32] | None,
    robot: Path,
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Both wrists and all finger tips: as recorded, else by forward kinematics of the measured joints.

    Computed wrists are in the frame of the torso, whose axes are those of the pelvis while the waist is straight; stage
    1 learns changes only, to which the origin does not matter. Computed tips lie where they do on their wrist, recorded
    or computed.

    Args:
        state: `(frames, 32)`, the joints first [rad].
        state_mask: which of its numbers the source has; None means all.
        wrists: recorded `(frames, 12)`: left and right x, y, z [m], roll, pitch, yaw [rad]; or None.
        tips: recorded `(frames, 30)`: left and right, in the order of `FINGERS` [m]; or None.
        robot: folder of the robot model.

    Returns:
        Left and right wrist `(frames, 6)`, left and right tips `(frames, 5, 3)`, as `task_space.from_robot` takes them.

    Raises:
        BadEpisode: wrists or tips are not recorded, and the source lacks joints that they would follow from.
    """
    frames = len(state)
    known = None if wrists is None else wrists.astype(np.float64).reshape(frames, 2, 6)
    points = None if tips is None else tips.astype(np.float64).reshape(frames, 2, len(FINGERS), 3)
    if known is not None and points is not None:
        return (known[:, 0], known[:, 1]), (points[:, 0], points[:, 1])
    if not all((state_mask or (1.0,) * STATE_SIZE)[:JOINTS]):
        raise BadEpisode(
            "holds neither wrists and finger tips nor all 28 joints of arms and hands, from which they would follow: "
            "stage 1 cannot learn from it"
        )
    from psi0.robot.hand_kinematics import hand_poses

    found_wrists, found_tips = [], []
    for number, side in enumerate(SIDES):
        pose, reached = hand_poses(robot, side, state[:, :JOINTS])
        wrist = known[:, number] if known is not None else np.concatenate([pose[:, :3, 3], euler(pose[:, :3, :3])], 1)
        if points is not None:
            found_tips.append(points[:, number])
        else:
            in_wrist = (reached - pose[:, None, :3, 3]) @ pose[:, :3, :3]
            here = in_wrist @ rotation(wrist[:, 3:]).swapaxes(1, 2) + wrist[:, None, :3]
            found_tips.append(np.pad(here, ((0, 0), (0, len(FINGERS) - here.shape[1]), (0, 0))))
        found_wrists.append(wrist)
    return (found_wrists[0], found_wrists[1]), (found_tips[0], found_tips[1])
