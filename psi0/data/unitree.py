"""Unitree's own teleoperation (`xr_teleoperate`, `EpisodeWriter`): `episode_0001/data.json` and `colors/`.

`data.json` is `{info, text, data}`; a frame has `colors` (`color_0` is the head camera, the left one of two) and, under
`states` and `actions`, `left_arm`, `right_arm`, `left_ee`, `right_ee` (older files: `left_hand`, `right_hand`), each
with `qpos` [rad], in the order of this project's joints. Frames carry no time: `info.image.fps` tells the rate.
Walking, where it was commanded, is `actions.body.qpos` or `actions.base.qvel` (vx, vy [m/s], vyaw [rad/s]). There are
no commands to torso and height: those numbers are padding, which the masks say.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0.data import frame_list
from psi0.data.episode import BadEpisode, Grouping, Importer, OtherRobot, RawEpisode, humanise
from psi0.data.features import ACTION, STATE
from psi0.data.frame_list import Frame, stack, value_at
from psi0.data.teleoperation import STANDING_HEIGHT
from psi0.robot.layout import ACTION_SIZE, STATE_NAMES, STATE_SIZE, UPPER_BODY_JOINTS, ActionPart

JOINTS = len(UPPER_BODY_JOINTS)
HEAD_CAMERA = "color_0"
_PARTS = (("left_ee", "left_hand"), ("right_ee", "right_hand"), ("left_arm",), ("right_arm",))
"""Groups of seven joints in this project's order, by the names under which they are found."""
_WALKING = (("base", "qvel"), ("body", "qpos"))


class Unitree(Importer):
    """Importer of Unitree's `xr_teleoperate`."""

    format = "unitree"

    @classmethod
    def group(cls, files: Sequence[str]) -> Grouping:
        """Folders that hold `data.json` or pictures."""
        return frame_list.group(files)

    def load(self, name: str) -> RawEpisode:
        """Open one episode folder.

        Columns: `observation.state` (frames, 32) and `action` (frames, 36).

        Raises:
            BadEpisode: a file is missing or truncated, a key is missing, or a joint vector has the wrong length.
            OtherRobot: the hands are no Dex3-1.
        """
        folder = self.root / name
        frames, header = frame_list.read_frames_and_header(folder)
        state, action = np.zeros((len(frames), STATE_SIZE)), np.zeros((len(frames), ACTION_SIZE))
        state[:, :JOINTS], action[:, :JOINTS] = _joints(frames, "states"), _joints(frames, "actions")
        state[:, STATE_NAMES.index("previous_height")] = action[:, ActionPart.HEIGHT] = STANDING_HEIGHT
        mask = np.zeros(ACTION_SIZE)
        mask[:JOINTS] = 1
        walking = _walking(frames)
        if walking is not None:
            action[:, ActionPart.VELOCITY], mask[ActionPart.VELOCITY] = walking, 1
        rate = self.options.frame_rate or value_at(header, "info", "image", "fps") or frame_list.PUBLISHED_RATE
        goal = value_at(header, "text", "goal")
        return RawEpisode(
            name=name,
            timestamps=np.arange(len(frames)) / float(rate),
            instruction=str(goal or humanise(PurePosixPath(name).parent.name or self.root.resolve().name)),
            columns={STATE: state.astype(np.float32), ACTION: action.astype(np.float32)},
            images=frame_list.image_stream(folder, frames, partial(_picture, self.options.camera or HEAD_CAMERA)),
            frame_rate=float(rate),
            action_mask=tuple(mask.tolist()),
            state_mask=(1.0,) * JOINTS + (0.0,) * (STATE_SIZE - JOINTS),
        )


def _joints(frames: Sequence[Frame], group: str) -> NDArray[np.float32]:
    parts = []
    for names in _PARTS:
        name = next((name for name in names if value_at(frames[0], group, name, "qpos") is not None), names[0])
        size = np.size(value_at(frames[0], group, name, "qpos") or ())
        if name not in ("left_arm", "right_arm") and size not in (0, 7):
            raise OtherRobot(f"{group}.{name} holds {size} numbers; this recipe trains the G1 with Dex3-1 hands (7)")
        parts.append(stack(frames, partial(_value, group, name, "qpos"), f"{group}.{name}.qpos", 7))
    return np.concatenate(parts, axis=1)


def _walking(frames: Sequence[Frame]) -> NDArray[np.float32] | None:
    for part, key in _WALKING:
        if np.size(value_at(frames[0], "actions", part, key) or ()) == 3:
            return stack(frames, partial(_value, "actions", part, key), f"actions.{part}.{key}", 3)
    return None


def _value(group: str, part: str, key: str, frame: Frame) -> Any:
    return value_at(frame, group, part, key)


def _picture(camera: str, frame: Frame) -> str:
    name = value_at(frame, "colors", camera)
    if not isinstance(name, str):
        known = ", ".join(frame.get("colors") or {}) or "none"
        raise BadEpisode(f"no picture of camera {camera} in some frames; there is {known}")
    return name
