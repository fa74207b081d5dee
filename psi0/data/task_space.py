"""The 48 numbers of stage 1: how both hands move from now to a few frames later, per hand 24.

Slots per hand, as published (Psi0, `egodex_dataset.py` and `transform.py`): wrist translation (3) [m], wrist rotation
as extrinsic x-y-z Euler angles of R2 R1^T (3) [rad], three zeros, translation of thumb, index, middle, ring and
little finger tips (15) [m]. Left hand first. EgoDex: in the camera frame of the current frame, for both poses.
Humanoid Everyday: in the robot's frame, ring and little fingers (which the Dex3-1 lacks) zero.
"""

import numpy as np
from numpy.typing import NDArray

from psi0.data.episode import BadEpisode
from psi0.data.features import TASK_SPACE_SIZE

Floats = NDArray[np.float64]
HAND_SIZE = TASK_SPACE_SIZE // 2
TIPS = slice(9, HAND_SIZE)


def euler(rotations: Floats) -> Floats:
    """Rotation matrices `(..., 3, 3)` as extrinsic x-y-z Euler angles `(..., 3)` [rad] (SciPy's lower-case `xyz`)."""
    x = np.arctan2(rotations[..., 2, 1], rotations[..., 2, 2])
    y = np.arcsin(np.clip(-rotations[..., 2, 0], -1, 1))
    z = np.arctan2(rotations[..., 1, 0], rotations[..., 0, 0])
    return np.stack([x, y, z], axis=-1)


def rotation(angles: Floats) -> Floats:
    """The inverse of `euler`: angles `(..., 3)` [rad] as matrices `(..., 3, 3)`."""
    (sx, sy, sz), (cx, cy, cz) = (np.moveaxis(f(angles), -1, 0) for f in (np.sin, np.cos))
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def hand_motion(wrist_now: Floats, wrist_then: Floats, tips_now: Floats, tips_then: Floats) -> Floats:
    """The 24 numbers of one hand.

    Args:
        wrist_now, wrist_then: poses `(frames, 4, 4)` in one frame per row.
        tips_now, tips_then: five finger tips `(frames, 5, 3)` in the same frame [m].
    """
    frames = len(wrist_now)
    motion = np.zeros((frames, HAND_SIZE))
    motion[:, 0:3] = wrist_then[:, :3, 3] - wrist_now[:, :3, 3]
    motion[:, 3:6] = euler(wrist_then[:, :3, :3] @ wrist_now[:, :3, :3].swapaxes(1, 2))
    motion[:, TIPS] = (tips_then - tips_now).reshape(frames, -1)
    return motion


def from_camera(
    camera: Floats, wrists: tuple[Floats, Floats], tips: tuple[Floats, Floats], gap: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Stage-1 actions of an EgoDex episode.

    Args:
        camera: pose of the camera in the world `(frames, 4, 4)`.
        wrists: left and right wrist poses in the world `(frames, 4, 4)`.
        tips: left and right finger tips in the world `(frames, 5, 3)`, thumb to little.
        gap: frames between the two poses (3 at 30 Hz).

    Returns:
        Actions `(frames, 48)` and whether each exists `(frames, 1)`: the last `gap` frames have none.

    Raises:
        BadEpisode: a camera pose is singular.
    """
    frames = len(camera)
    known = max(0, frames - gap)
    try:
        world_to_camera = np.linalg.inv(camera[:known])
    except np.linalg.LinAlgError:
        raise BadEpisode("a camera pose cannot be inverted") from None

    def seen(points: Floats) -> Floats:
        return points @ world_to_camera[:, :3, :3].swapaxes(1, 2) + world_to_camera[:, None, :3, 3]

    motions = [
        hand_motion(
            world_to_camera @ wrist[:known],
            world_to_camera @ wrist[gap:],
            seen(points[:known]),
            seen(points[gap:]),
        )
        for wrist, points in zip(wrists, tips, strict=True)
    ]
    return _padded(np.concatenate(motions, axis=1), frames)


def from_robot(
    wrists: tuple[Floats, Floats], tips: tuple[Floats, Floats], gap: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Stage-1 actions of a Humanoid Everyday episode.

    Args:
        wrists: left and right wrist `(frames, 6)`: x, y, z [m], roll, pitch, yaw [rad], robot frame.
        tips: left and right finger tips `(frames, 5, 3)` [m], robot frame; missing fingers zero.
        gap: frames between the two poses.

    Returns:
        As `from_camera`.
    """
    frames = len(wrists[0])
    known = max(0, frames - gap)
    motions = []
    for wrist, points in zip(wrists, tips, strict=True):
        pose = np.tile(np.eye(4), (frames, 1, 1))
        pose[:, :3, :3] = rotation(wrist[:, 3:])
        pose[:, :3, 3] = wrist[:, :3]
        motions.append(hand_motion(pose[:known], pose[gap:], points[:known], points[gap:]))
    return _padded(np.concatenate(motions, axis=1), frames)


def _padded(motion: Floats, frames: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    action = np.zeros((frames, TASK_SPACE_SIZE), np.float32)
    valid = np.zeros((frames, 1), np.float32)
    action[: len(motion)] = motion
    valid[: len(motion)] = 1
    return action, valid
