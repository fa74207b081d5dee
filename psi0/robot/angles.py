"""Angles of rotations, and angles that go round."""

import numpy as np
from numpy.typing import NDArray


def wrapped(angle: float) -> float:
    """The same direction as an angle between -pi and pi [rad]."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def yaw_of(quaternion: NDArray[np.float64]) -> float:
    """Angle about the vertical [rad] of a rotation `(4,)`, w first: where what it turns is heading."""
    w, x, y, z = quaternion
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def roll_pitch_yaw(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles `(3,)` [rad] about x, y and z of a rotation `(4,)`, w first; turned about x first, about z last."""
    w, x, y, z = quaternion
    return np.array(
        [
            np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
            np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0)),
            yaw_of(quaternion),
        ]
    )
