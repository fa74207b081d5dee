"""What human hands do at a table: key frames per hand, smooth motion between them, a little tremor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from psi0.sim.recorders.skeleton import Pose

_PALM_TO_OBJECT = np.array([0.095, 0.0, -0.05])
"""Where a held object's axis lies in the hand's frame [m]."""
_REST_ROLL, _GRASP_ROLL, _GRASP_YAW = 0.4, 1.3, 0.5
_TREMOR_METRES, _TREMOR_RADIANS = 0.002, 0.02


@dataclass(frozen=True)
class KeyFrame:
    """Where a hand is at some time [s]: wrist position `(3,)` [m], roll, pitch, yaw [rad], curl 0 to 1."""

    time: float
    position: NDArray[np.float64]
    angles: NDArray[np.float64]
    curl: float


def minimum_jerk(share: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Share of the way against share of the time, at rest at both ends."""
    share = np.clip(share, 0.0, 1.0)
    return share**3 * (10 - 15 * share + 6 * share**2)


class HandMotion:
    """One hand through its key frames. Left hands mirror right ones: `sign` is 1 for left, -1 for right."""

    def __init__(self, side: str, start: float, random: np.random.Generator) -> None:
        self.side, self.sign = side, 1.0 if side == "left" else -1.0
        rest = np.array([0.0, 0.22 * self.sign, 0.80]) + random.normal(0, 0.02, 3)
        self.rest = KeyFrame(start, rest, self._angles(_REST_ROLL, 0.1, 0.2), float(random.uniform(0.1, 0.4)))
        self.frames = [self.rest]
        self._phase = random.uniform(0, 2 * np.pi, (2, 11))
        self._rate = random.uniform(0.5, 3.0, (2, 11))
        self._finger_share = random.uniform(0.85, 1.0, 5)

    def _angles(self, roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
        return np.array([-roll * self.sign, pitch, -yaw * self.sign])

    @property
    def now(self) -> float:
        """Time of the last key frame [s]."""
        return self.frames[-1].time

    def _add(self, seconds: float, position: NDArray[np.float64], angles: NDArray[np.float64], curl: float) -> None:
        self.frames.append(KeyFrame(self.now + seconds, position, angles, curl))

    def wrist_for(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Wrist position `(3,)` at which the hand, rolled to grasp, holds something at `target` `(3,)`."""
        angles = self._angles(_GRASP_ROLL, 0.0, _GRASP_YAW)
        return target - Rotation.from_euler("xyz", angles).as_matrix() @ _PALM_TO_OBJECT

    def wait(self, seconds: float) -> None:
        """Stay as it is."""
        last = self.frames[-1]
        self._add(seconds, last.position, last.angles, last.curl)

    def reach(self, target: NDArray[np.float64], seconds: float) -> None:
        """Come from the outer side to where the open hand encloses `target`."""
        grasp = self._angles(_GRASP_ROLL, 0.0, _GRASP_YAW)
        wrist = self.wrist_for(target)
        self._add(0.65 * seconds, wrist + np.array([-0.05, 0.09 * self.sign, 0.03]), grasp, 0.1)
        self._add(0.35 * seconds, wrist, grasp, 0.15)

    def close(self, curl: float, seconds: float) -> None:
        """Open or close the fingers."""
        last = self.frames[-1]
        self._add(seconds, last.position, last.angles, curl)

    def carry(self, target: NDArray[np.float64], seconds: float) -> None:
        """Bring what is held to `target`."""
        last = self.frames[-1]
        self._add(seconds, self.wrist_for(target), last.angles, last.curl)

    def withdraw(self, seconds: float) -> None:
        """Back off to the outer side, then to rest."""
        last = self.frames[-1]
        self._add(0.4 * seconds, last.position + np.array([-0.05, 0.09 * self.sign, 0.04]), last.angles, 0.1)
        self._add(0.6 * seconds, self.rest.position, self.rest.angles, self.rest.curl)

    def at(self, time: float) -> tuple[Pose, NDArray[np.float64]]:
        """Wrist pose `(4, 4)` and curl `(5,)` at a time [s]."""
        after = next((i for i, frame in enumerate(self.frames) if frame.time > time), len(self.frames) - 1)
        before, then = self.frames[max(after - 1, 0)], self.frames[after]
        share = minimum_jerk((time - before.time) / max(then.time - before.time, 1e-6))
        tremor = np.sin(2 * np.pi * self._rate * time + self._phase).sum(axis=0) / 2
        position = before.position + (then.position - before.position) * share + _TREMOR_METRES * tremor[:3]
        angles = before.angles + (then.angles - before.angles) * share + _TREMOR_RADIANS * tremor[3:6]
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = Rotation.from_euler("xyz", angles).as_matrix(), position
        curl = (before.curl + (then.curl - before.curl) * share) * self._finger_share + _TREMOR_RADIANS * tremor[6:]
        return pose, np.clip(curl, 0.0, 1.0)
