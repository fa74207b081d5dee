"""Humanoid Everyday (USC, arXiv 2510.08807): `<category>/<task>/episode_<i>/data.json` and `color/`, 30 Hz.

Of a G1 with Dex3-1 hands: `states` (hand_state 14, arm_state 14) and, under `action` or `actions`, `joint_angles` 28
(left hand, right hand, left arm, right arm [rad]) or their parts (left_angles 7, right_angles 7, sol_q 14); `wrists`
and `hands`, or `left_pose` and `right_pose` (4x4), in the robot's frame [m, rad] where present. Frames carry no time
but in some versions. Episodes of the H1 are set aside. There are no commands to the lower body: 8 of 36 action and 4 of
32 state numbers are padding, which the masks say.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0.data import frame_list
from psi0.data.episode import AS_FOUND, BadEpisode, Grouping, Importer, Options, OtherRobot, RawEpisode, humanise
from psi0.data.features import ACTION, FINGERS, KEY_POINTS, STATE
from psi0.data.frame_list import Frame, action_value, stack, value_at
from psi0.data.task_space import euler
from psi0.files import read_json
from psi0.robot.layout import ACTION_SIZE, SIDES, STATE_SIZE, UPPER_BODY_JOINTS

JOINTS = len(UPPER_BODY_JOINTS)
H1_JOINTS = 26
ACTION_MASK = (1.0,) * JOINTS + (0.0,) * (ACTION_SIZE - JOINTS)
STATE_MASK = (1.0,) * JOINTS + (0.0,) * (STATE_SIZE - JOINTS)
WRISTS = "wrists"
"""Raw column `(frames, 12)`: left and right wrist, x, y, z [m], roll, pitch, yaw [rad]."""
TIPS = "tips"
"""Raw column `(frames, 30)`: left and right finger tips in the order of `FINGERS` [m]; missing fingers zero."""
_FINGER_KEYS = {finger: (finger, f"{finger}_finger", f"{finger}_tip") for finger in FINGERS}


class HumanoidEveryday(Importer):
    """Importer of Humanoid Everyday."""

    format = "humanoid_everyday"

    def __init__(self, root: Path, files: Sequence[str], options: Options = AS_FOUND) -> None:
        super().__init__(root, files, options)
        self._metadata = frame_list.read_metadata(root)
        path = root / "task_description_dict.json"
        self._descriptions: Any = read_json(path) if path.exists() else {}

    @classmethod
    def group(cls, files: Sequence[str]) -> Grouping:
        """Folders that hold `data.json` or pictures."""
        return frame_list.group(files)

    def load(self, name: str) -> RawEpisode:
        """Open one episode folder.

        Columns: `observation.state` (frames, 32), `action` (frames, 36), and where the file has them `wrists`,
        `tips` and `observation.key_points`.

        Raises:
            BadEpisode: a file is missing or truncated, a key is missing, or a joint vector has the wrong length.
            OtherRobot: the episode is of an H1.
        """
        folder = self.root / name
        frames = frame_list.read_frames(folder)
        frame_list.refuse_other_robots(frames)
        action = _joint_angles(frames)
        hands = stack(frames, lambda frame: value_at(frame, "states", "hand_state"), "states.hand_state", 14)
        arms = stack(frames, lambda frame: value_at(frame, "states", "arm_state"), "states.arm_state", 14)
        columns = {
            STATE: _pad(np.concatenate([hands, arms], axis=1), STATE_SIZE),
            ACTION: _pad(action, ACTION_SIZE),
        }
        points = frame_list.key_points(frames)
        if points is not None:
            columns[KEY_POINTS] = points
        columns |= hand_columns(frames)
        frame_rate = self.options.frame_rate or self._metadata.get("frame_rate")
        return RawEpisode(
            name=name,
            timestamps=frame_list.times(frames, frame_rate or frame_list.PUBLISHED_RATE, self.options.frame_rate),
            instruction=self._instruction(name),
            columns=columns,
            images=frame_list.image_stream(folder, frames),
            frame_rate=frame_rate,
            action_mask=ACTION_MASK,
            state_mask=STATE_MASK,
        )

    def _instruction(self, name: str) -> str:
        path = PurePosixPath(name).parent
        found = self._descriptions if isinstance(self._descriptions, dict) else {}
        category = found.get(path.parent.name)
        for value in (found.get(path.name), found.get(path.as_posix()), category):
            if isinstance(value, dict):
                value = value.get(path.name)
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, str) and value.strip():
                return value.strip()
        return humanise(path.name)


def _joint_angles(frames: Sequence[Frame]) -> NDArray[np.float32]:
    first = action_value(frames[0], "joint_angles")
    if first is not None:
        if np.size(first) == H1_JOINTS:
            raise OtherRobot(f"action.joint_angles holds {H1_JOINTS} numbers: an H1 with Inspire hands")
        return stack(frames, lambda frame: action_value(frame, "joint_angles"), "action.joint_angles", JOINTS)
    arms = stack(frames, lambda frame: _last(action_value(frame, "sol_q"), 14), "action.sol_q", 14)
    left, right = (stack(frames, partial(_angles, side), f"action.{side}_angles", 7) for side in SIDES)
    return np.concatenate([left, right, arms], axis=1)


def _angles(side: str, frame: Frame) -> Any:
    return action_value(frame, f"{side}_angles")


def _last(values: Any, count: int) -> Any:
    """The arms are the last 14 joints of a whole-body solution, or all of it."""
    return values[-count:] if isinstance(values, list) else values


def _pad(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.pad(values, ((0, 0), (0, size - values.shape[1])))


def hand_columns(frames: Sequence[Frame]) -> dict[str, NDArray[np.float32]]:
    """`wrists` and `tips` as far as the file has them; what is missing follows from the joints (`stage.py`)."""
    if any(action_value(frames[0], "wrists", side, "xyz") is None for side in SIDES):
        return _published_poses(frames)
    try:
        wrists = [
            stack(frames, partial(_wrist, side, part), f"action.wrists.{side}.{part}", 3)
            for side in SIDES
            for part in ("xyz", "rpy")
        ]
    except BadEpisode:
        return {}
    columns = {WRISTS: np.concatenate(wrists, axis=1)}
    if isinstance(action_value(frames[0], "hands"), dict):
        columns[TIPS] = np.concatenate([_tip(frames, side, finger) for side in SIDES for finger in FINGERS], axis=1)
    return columns


def _published_poses(frames: Sequence[Frame]) -> dict[str, NDArray[np.float32]]:
    """Wrists from `left_pose` and `right_pose` (4x4), where every frame has both."""
    try:
        poses = [stack(frames, partial(_pose, side), f"actions.{side}_pose", 16) for side in SIDES]
    except BadEpisode:
        return {}
    matrices = [pose.astype(np.float64).reshape(-1, 4, 4) for pose in poses]
    wrists = [np.concatenate([pose[:, :3, 3], euler(pose[:, :3, :3])], axis=1) for pose in matrices]
    return {WRISTS: np.concatenate(wrists, axis=1).astype(np.float32)}


def _pose(side: str, frame: Frame) -> Any:
    return action_value(frame, f"{side}_pose")


def _wrist(side: str, part: str, frame: Frame) -> Any:
    return action_value(frame, "wrists", side, part)


def _tip(frames: Sequence[Frame], side: str, finger: str) -> NDArray[np.float32]:
    keys = [f"{side}_{key}" for key in _FINGER_KEYS[finger]]
    key = next((key for key in keys if action_value(frames[0], "hands", key, "xyz") is not None), None)
    if key is None:
        return np.zeros((len(frames), 3), np.float32)
    return stack(frames, lambda frame: action_value(frame, "hands", key, "xyz"), f"action.hands.{key}.xyz", 3)
