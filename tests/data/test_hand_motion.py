"""Stage 1 also learns from robot episodes whose files hold no wrists: they follow from the joints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_layouts
from numpy.testing import assert_allclose

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.data.episode import BadEpisode
from psi0.data.hand_motion import complete
from psi0.data.index import index_raw
from psi0.data.stage import prepare_humanoid_everyday
from psi0.params import Params
from psi0.robot.hand_kinematics import hand_poses
from psi0.robot.model import TORSO

FRAMES, GAP = 20, 3


@pytest.fixture
def here(workspace: Path, robot_folder: Path) -> Path:
    """A checkout with the real robot."""
    (workspace / "data/robot/limits.json").unlink()
    (workspace / "data/robot").rmdir()
    (workspace / "data/robot").symlink_to(robot_folder)
    return workspace


def in_parts(frame: dict[str, Any]) -> None:
    """As published where the episode has no `wrists`."""
    angles = frame.pop("action")["joint_angles"]
    frame["actions"] = {"left_angles": angles[:7], "right_angles": angles[7:14], "sol_q": [0.0] * 15 + angles[14:]}


def with_poses(frame: dict[str, Any]) -> None:
    """As published with 4x4 poses of the wrists."""
    in_parts(frame)
    step = round((frame["time"] - 5) * 30)
    frame["actions"] |= {f"{side}_pose": raw_layouts.pose(step, i).tolist() for i, side in enumerate(("left", "right"))}


def prepare(source: Path, params: Callable[..., Params]) -> LeRobotDataset:
    index_raw(str(source), "auto", 80, paths.RAW_HUMANOID_EVERYDAY)
    prepare_humanoid_everyday(params())
    dataset = LeRobotDataset(paths.PREPARED_HUMANOID_EVERYDAY)
    assert dataset.column("action.task_space_valid")[: FRAMES - GAP].all()
    return dataset


@pytest.mark.parametrize("change", [in_parts, with_poses])
def test_humanoid_everyday_without_wrists(change: Callable[[Any], None], here: Path, params: Any) -> None:
    source = raw_layouts.humanoid_everyday(here / "downloads", episodes=1, frames=FRAMES)
    path = source / "basic/pick_can/episode_0/data.json"
    frames = json.loads(path.read_text())
    for frame in frames:
        change(frame)
    path.write_text(json.dumps(frames))
    dataset = prepare(source, params)
    moved = dataset.column("action.task_space")
    joints = np.array([frame["states"]["hand_state"] + frame["states"]["arm_state"] for frame in frames])
    wrist, tips = hand_poses(here / "data/robot", "right", joints)
    if change is with_poses:
        given = np.stack([raw_layouts.pose(step, 1) for step in range(FRAMES)]).astype(np.float64)
        tips = (tips - wrist[:, None, :3, 3]) @ wrist[:, :3, :3] @ given[:, :3, :3].swapaxes(1, 2)
        tips += given[:, None, :3, 3]
        wrist = given
    assert_allclose(moved[4, 24:27], wrist[7, :3, 3] - wrist[4, :3, 3], atol=1e-5)
    assert_allclose(moved[4, 33:42].reshape(3, 3), tips[7] - tips[4], atol=1e-5)
    assert not moved[:, 42:48].any(), "a Dex3-1 has neither ring nor little finger"


def test_teleoperation_and_lerobot_as_humanoid_everyday(here: Path, params: Any) -> None:
    prepare(raw_layouts.teleoperation(here / "teleoperated", episodes=1, frames=FRAMES), params)
    moved = prepare(raw_layouts.lerobot_2(here / "lerobot", episodes=1, frames=FRAMES), params)
    assert np.abs(moved.column("action.task_space")[:5, [0, 1, 2, 9, 24, 33]]).max() > 1e-4


def test_the_computed_hands_are_those_that_the_simulator_measures(robot_folder: Path) -> None:
    from psi0.params import Camera, Control
    from psi0.sim.recorders import measurements
    from psi0.sim.world import make_world

    world = make_world("pick_can", Control(), Camera(width=32, height=24), robot_folder=robot_folder, render=False)
    world.reset(600000)
    wrist, tips = hand_poses(robot_folder, "left", world.body.upper_position()[None])
    pelvis, torso = (world.data.body(name) for name in ("pelvis", TORSO))
    turn = pelvis.xmat.reshape(3, 3).T @ torso.xmat.reshape(3, 3)
    origin = pelvis.xmat.reshape(3, 3).T @ (torso.xpos - pelvis.xpos)
    measured = measurements.wrist_pose(world, "left")
    assert_allclose(turn @ wrist[0, :3, 3] + origin, measured[:3, 3], atol=1e-9)
    assert_allclose(turn @ wrist[0, :3, :3], measured[:3, :3], atol=1e-9)
    seen = measurements.finger_tips(world)
    for tip, finger in zip(tips[0], ("thumb", "index", "middle"), strict=True):
        assert_allclose(turn @ tip + origin, seen[f"left_{finger}"]["xyz"], atol=1e-9)


def test_without_all_joints_it_says_so() -> None:
    state = np.zeros((4, 32), np.float32)
    with pytest.raises(BadEpisode, match="neither wrists and finger tips nor all 28 joints"):
        complete(state, (0.0,) * 14 + (1.0,) * 18, None, None, Path("nowhere"))
