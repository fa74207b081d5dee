"""G1 teleoperation as Psi-Zero records it: `<task>/episode_<i>/data.json` and `color/frame_%06d.jpg`.

A frame carries `states` (hand_state 14, arm_state 14) and `actions` (left_angles 7, right_angles 7, sol_q 29 = 12
legs, 3 waist, 14 arms, torso_rpy 3, torso_height, torso_vx, torso_vy, torso_vyaw, target_yaw). Keys and order follow
the published conversion script (`scripts/data/raw_to_lerobot.py` of Psi0); joints [rad], height [m], velocities
[m/s, rad/s]. The state is 28 measured joints, then the torso and height commanded one frame before.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0.data import frame_list
from psi0.data.episode import AS_FOUND, Grouping, Importer, Options, RawEpisode, humanise
from psi0.data.features import ACTION, KEY_POINTS, STATE
from psi0.data.frame_list import Frame, action_value, stack, value_at
from psi0.robot.layout import ActionPart

STANDING_HEIGHT = 0.75
"""Height command before the first one [m], as in the published conversion."""
_SOLVED_ARMS = slice(15, 29)
"""The 14 arm joints within `sol_q`, after 12 legs and 3 waist joints."""
_SCALARS = ("torso_height", "torso_vx", "torso_vy", "torso_vyaw", "target_yaw")


class Teleoperation(Importer):
    """Importer of G1 teleoperation."""

    format = "teleoperation"

    def __init__(self, root: Path, files: Sequence[str], options: Options = AS_FOUND) -> None:
        super().__init__(root, files, options)
        self._metadata = frame_list.read_metadata(root)

    @classmethod
    def group(cls, files: Sequence[str]) -> Grouping:
        """Folders that hold `data.json` or pictures."""
        return frame_list.group(files)

    def load(self, name: str) -> RawEpisode:
        """Open one episode folder.

        Columns: `observation.state` (frames, 32), `action` (frames, 36), `observation.key_points` (frames, 5 K)
        where the recorder left them.

        Raises:
            BadEpisode: a file is missing or truncated, a key is missing, or a joint vector has the wrong length.
        """
        folder = self.root / name
        frames = frame_list.read_frames(folder)
        frame_list.refuse_other_robots(frames)
        action = read_action(frames)
        measured = [
            stack(frames, partial(_value, "states", key), f"states.{key}", 14) for key in ("hand_state", "arm_state")
        ]
        commanded = action[:, ActionPart.TORSO_AND_HEIGHT]
        first = np.array([[0, 0, 0, self._metadata.get("standing_height", STANDING_HEIGHT)]], np.float32)
        columns = {
            STATE: np.concatenate([*measured, np.concatenate([first, commanded[:-1]])], axis=1),
            ACTION: action,
        }
        points = frame_list.key_points(frames)
        if points is not None:
            columns[KEY_POINTS] = points
        frame_rate = self.options.frame_rate or self._metadata.get("frame_rate")
        return RawEpisode(
            name=name,
            timestamps=frame_list.times(frames, frame_rate or frame_list.PUBLISHED_RATE, self.options.frame_rate),
            instruction=self._instruction(name),
            columns=columns,
            images=frame_list.image_stream(folder, frames),
            frame_rate=frame_rate,
        )

    def _instruction(self, name: str) -> str:
        path = PurePosixPath(name)
        own = self._metadata.get("instructions")
        if isinstance(own, dict) and own.get(path.name):
            return str(own[path.name])
        said = self._metadata.get("instruction")
        task = path.parent.name or self.root.resolve().name
        if isinstance(said, dict):
            said = said.get(task) or next(iter(said.values()), None)
        return str(said) if said else humanise(task)


def read_action(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """The 36 commanded numbers of every frame, `(frames, 36)`.

    Raises:
        BadEpisode: a key is missing or has the wrong length.
    """
    arms: Callable[[Frame], Any] = partial(_action, "sol_q")
    whole_body = int(np.size(arms(frames[0]))) != 14
    arm_angles = stack(frames, arms, "actions.sol_q", 29 if whole_body else 14)
    return np.concatenate(
        [
            stack(frames, partial(_action, "left_angles"), "actions.left_angles", 7),
            stack(frames, partial(_action, "right_angles"), "actions.right_angles", 7),
            arm_angles[:, _SOLVED_ARMS] if whole_body else arm_angles,
            stack(frames, partial(_action, "torso_rpy"), "actions.torso_rpy", 3),
            *(stack(frames, partial(_action, name), f"actions.{name}", 1) for name in _SCALARS),
        ],
        axis=1,
    )


def _action(key: str, frame: Frame) -> Any:
    return action_value(frame, key)


def _value(group: str, key: str, frame: Frame) -> Any:
    return value_at(frame, group, key)
