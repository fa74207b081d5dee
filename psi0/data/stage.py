"""Stages `prepare_*`: raw episodes in, LeRobot v3.0 with statistics and quality out."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0 import paths
from psi0.data import egodex, hand_motion, humanoid_everyday, task_space
from psi0.data.digest import Recipe
from psi0.data.episode import RawEpisode
from psi0.data.features import (
    ACTION,
    ACTION_VALID,
    STATE,
    TASK_SPACE,
    TASK_SPACE_SIZE,
    TASK_SPACE_VALID,
)
from psi0.data.formats import HUMAN_FORMATS, ROBOT_FORMATS
from psi0.data.prepare import prepare
from psi0.data.quality import check_limits
from psi0.data.source import open_raw
from psi0.params import Params
from psi0.robot.layout import ACTION_NAMES, STATE_NAMES, ActionPart
from psi0.robot.limits import load_limits

Columns = dict[str, NDArray[np.float32]]


def prepare_egodex(params: Params) -> None:
    """Prepare EgoDex: video and the 48 stage-1 numbers, `tokenizer.frame_gap` frames ahead.

    Rows in which a wrist is not tracked, now or then, are marked as not valid.

    What is made from real EgoDex is marked `redistributable: false`: its licence (CC-BY-NC-ND) forbids passing it on,
    so give its outputs a DVC remote of their own or `push: false`.
    """
    gap = params.tokenizer.frame_gap

    def finish(episode: RawEpisode, frame_rate: float) -> Columns:
        columns = dict(episode.columns)
        tracked = columns.pop(egodex.TRACKED)
        poses = {name: values.astype(np.float64).reshape(-1, 4, 4) for name, values in columns.items()}
        left, right = (poses[name] for name in egodex.WRISTS)
        tips = [np.stack([poses[tip][:, :3, 3] for tip in side], axis=1) for side in egodex.TIPS]
        action, valid = task_space.from_camera(poses[egodex.CAMERA], (left, right), (tips[0], tips[1]), gap)
        valid *= tracked
        valid[:-gap] *= tracked[gap:]
        return {ACTION: action, ACTION_VALID: valid}

    def idle(episode: RawEpisode, frame_rate: float) -> NDArray[np.bool_]:
        moved = episode.columns[ACTION].reshape(-1, 2, TASK_SPACE_SIZE // 2)
        points = np.concatenate([moved[..., :3], moved[..., task_space.TIPS]], axis=-1)
        speed = np.linalg.norm(points.reshape(len(points), -1, 3), axis=-1).max(axis=1) * frame_rate / gap
        return (speed < params.prepare.idle_speed) & (episode.columns[ACTION_VALID][:, 0] > 0)

    recipe = Recipe(
        **_common(params),
        idle=idle,
        finish=finish,
        check=egodex.check_poses,
        robot_type="human_hands",
        has_robot=False,
    )
    prepare(open_raw(paths.RAW_EGODEX, HUMAN_FORMATS), recipe, paths.PREPARED_EGODEX)


def prepare_humanoid_everyday(params: Params) -> None:
    """Prepare Humanoid Everyday, or other episodes of the robot: state, joint targets and the 48 stage-1 numbers.

    Where a source has no wrists or finger tips, they follow from its measured joints.
    """

    def finish(episode: RawEpisode, frame_rate: float) -> Columns:
        columns = dict(episode.columns)
        wrists, tips = columns.pop(humanoid_everyday.WRISTS, None), columns.pop(humanoid_everyday.TIPS, None)
        hands = hand_motion.complete(columns[STATE], episode.state_mask, wrists, tips, paths.ROBOT)
        action, valid = task_space.from_robot(*hands, params.tokenizer.frame_gap)
        return columns | {TASK_SPACE: action, TASK_SPACE_VALID: valid}

    recipe = Recipe(
        **_common(params),
        idle=_idle_robot(params.prepare.idle_speed),
        finish=finish,
        check=_within_limits(params.prepare.limit_tolerance),
    )
    source = open_raw(paths.RAW_HUMANOID_EVERYDAY, ROBOT_FORMATS)
    prepare(source, recipe, paths.PREPARED_HUMANOID_EVERYDAY)


def prepare_demonstrations(params: Params, task: str) -> None:
    """Prepare a task's demonstrations, thinned to `control.policy_hz`."""
    recipe = Recipe(
        **_common(params),
        idle=_idle_robot(params.prepare.idle_speed),
        check=_within_limits(params.prepare.limit_tolerance),
        frame_rate=params.control.policy_hz,
    )
    source = open_raw(paths.raw_demonstrations(task), ROBOT_FORMATS)
    prepare(source, recipe, paths.prepared_demonstrations(task))


def _common(params: Params) -> dict[str, Any]:
    return {
        "width": params.camera.width,
        "height": params.camera.height,
        "codec": params.prepare.video_codec,
        "quality": params.prepare.video_quality,
        "max_bad_share": params.prepare.max_bad_share,
    }


def _within_limits(tolerance: float) -> Callable[[RawEpisode], None]:
    joints = load_limits(paths.ROBOT).file.joints
    limits = {name: (joint.low, joint.high) for name, joint in joints.items()}

    def check(episode: RawEpisode) -> None:
        for column, names in ((STATE, STATE_NAMES), (ACTION, ACTION_NAMES)):
            check_limits(episode.columns[column], names, limits, tolerance, column)

    return check


def _idle_robot(speed: float) -> Callable[[RawEpisode, float], NDArray[np.bool_]]:
    """A robot idles where no measured joint moves faster than `speed` [rad/s] and no velocity is commanded."""

    def idle(episode: RawEpisode, frame_rate: float) -> NDArray[np.bool_]:
        joints = episode.columns[STATE][:, ActionPart.UPPER_BODY]
        moved = np.abs(np.diff(joints, axis=0, append=joints[-1:])).max(axis=1) * frame_rate
        walks = np.abs(episode.columns[ACTION][:, ActionPart.VELOCITY]).max(axis=1) > speed
        return (moved < speed) & ~walks

    return idle
