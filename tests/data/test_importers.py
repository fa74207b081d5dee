"""Every raw format is read to the number, whatever the codec and whatever is missing that is not needed."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import raw_layouts
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from psi0.data.episode import BadEpisode, Options, OtherRobot
from psi0.data.formats import IMPORTERS, detect_format
from psi0.errors import Psi0Error
from psi0.files import folder_files


def load(root: Path, format: str, name: str):
    files = [path.as_posix() for path in folder_files(root)]
    assert detect_format(files, lambda file: (root / file).read_bytes(), str(root)) == format
    return IMPORTERS[format](root, files).load(name)


def names(root: Path, format: str) -> list[str]:
    return IMPORTERS[format](root, [path.as_posix() for path in folder_files(root)]).names


def test_teleoperation_numbers_and_times(tmp_path: Path) -> None:
    root = raw_layouts.teleoperation(tmp_path / "pick_can", episodes=11)
    assert names(root, "teleoperation")[:3] == ["episode_0", "episode_1", "episode_2"]
    episode = load(root, "teleoperation", "episode_1")
    frames = [raw_layouts.teleoperation_frame(step, 10, 2) for step in range(13)]
    state, action = episode.columns["observation.state"], episode.columns["action"]
    assert episode.instruction == "pick up the red can"
    assert_allclose(episode.timestamps, np.arange(13) / 10, atol=1e-4)
    for step, frame in enumerate(frames):
        told, seen = frame["actions"], frame["states"]
        expected = [
            *told["left_angles"],
            *told["right_angles"],
            *told["sol_q"][15:],
            *told["torso_rpy"],
            *(told[key] for key in ("torso_height", "torso_vx", "torso_vy", "torso_vyaw", "target_yaw")),
        ]
        assert_allclose(action[step], expected, atol=1e-6)
        before = frames[step - 1]["actions"] if step else {"torso_rpy": [0, 0, 0], "torso_height": 0.75}
        assert_allclose(
            state[step],
            [*seen["hand_state"], *seen["arm_state"], *before["torso_rpy"], before["torso_height"]],
            atol=1e-6,
        )
        assert_allclose(
            episode.columns["observation.key_points"][step], np.ravel(frame["psi0"]["key_points"]), atol=1e-6
        )
    images = list(episode.images(32, 24))
    assert len(images) == 13
    assert np.abs(images[5].astype(int) - raw_layouts.picture(5)).mean() < 4


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "av1"])
def test_egodex_numbers_in_every_codec(tmp_path: Path, codec: str) -> None:
    raw_layouts.egodex_pair(tmp_path / "part1/pick_can", 7, frames=9, codec=codec)
    episode = load(tmp_path, "egodex", "part1/pick_can/7")
    assert episode.frames == 9 and episode.notes == {"wrist_confidence": 0.9}
    assert_allclose(episode.timestamps, np.arange(9) / 30, atol=1e-4)
    for which, joint in enumerate(raw_layouts.EGODEX_JOINTS):
        if joint != "hip":
            expected = np.stack([raw_layouts.pose(step, which) for step in range(9)]).reshape(9, 16)
            assert_allclose(episode.columns[joint], expected, atol=1e-6)
    images = list(episode.images(16, 12))
    assert [image.shape for image in images] == [(12, 16, 3)] * 9


@pytest.mark.parametrize(
    ("attributes", "instruction"),
    [
        ({"llm_description": "open it", "llm_description2": "close it", "which_llm_description": "1"}, "open it"),
        ({"llm_description": "open it", "llm_description2": "close it", "which_llm_description": 2}, "close it"),
        ({"llm_description": "open it", "llm_description2": "None", "which_llm_description": "2"}, "open it"),
        ({"description": np.bytes_("an older file")}, "an older file"),
        ({"llm_description": h5py.Empty("f")}, "pick can"),
        ({}, "pick can"),
    ],
)
def test_egodex_instruction(tmp_path: Path, attributes: dict, instruction: str) -> None:
    raw_layouts.egodex_pair(tmp_path / "pick_can", 0, frames=3, attributes=attributes)
    assert load(tmp_path, "egodex", "pick_can/0").instruction == instruction


def test_egodex_without_confidences(tmp_path: Path) -> None:
    raw_layouts.egodex_pair(tmp_path / "pick_can", 0, frames=3)
    with h5py.File(tmp_path / "pick_can/0.hdf5", "a") as file:
        del file["confidences"], file["transforms/hip"], file["camera/intrinsic"]
    assert load(tmp_path, "egodex", "pick_can/0").notes == {}
    with h5py.File(tmp_path / "pick_can/0.hdf5", "a") as file:
        file["confidences/leftHand"] = "None"
    assert load(tmp_path, "egodex", "pick_can/0").notes == {}


@pytest.mark.parametrize("key", ["action", "actions"])
def test_humanoid_everyday_numbers(tmp_path: Path, key: str) -> None:
    root = raw_layouts.humanoid_everyday(tmp_path, episodes=1, frames=6, action_key=key)
    episode = load(root, "humanoid_everyday", "basic/pick_can/episode_0")
    assert episode.instruction == "Pick up the can."
    assert_allclose(episode.timestamps, np.arange(6) / 30, atol=1e-4)
    frame = raw_layouts.humanoid_everyday_frame(4)
    seen = frame["states"]
    assert_allclose(
        episode.columns["observation.state"][4], [*seen["hand_state"], *seen["arm_state"], 0, 0, 0, 0], atol=1e-6
    )
    assert_allclose(episode.columns["action"][4], [*frame["action"]["joint_angles"], *[0] * 8], atol=1e-6)
    assert sum(episode.action_mask or ()) == 28 and sum(episode.state_mask or ()) == 28
    left = frame["action"]["wrists"]["left"]
    assert_allclose(episode.columns["wrists"][4, :6], [*left["xyz"], *left["rpy"]], atol=1e-6)
    assert_allclose(episode.columns["tips"][4].reshape(2, 5, 3)[:, 3:], 0)
    tip = frame["action"]["hands"]["right_middle"]["xyz"]
    assert_allclose(episode.columns["tips"][4].reshape(2, 5, 3)[1, 2], tip, atol=1e-6)


def test_humanoid_everyday_in_parts_and_without_hands(tmp_path: Path) -> None:
    root = raw_layouts.humanoid_everyday(tmp_path, episodes=1, frames=3)
    path = root / "basic/pick_can/episode_0/data.json"
    frames = json.loads(path.read_text())
    for frame in frames:
        angles = frame["action"]["joint_angles"]
        frame["actions"] = {"left_angles": angles[:7], "right_angles": angles[7:14], "sol_q": [0.0] * 15 + angles[14:]}
        del frame["action"], frame["time"]
    path.write_text(json.dumps(frames))
    (root / "metadata.json").write_text(json.dumps({"schema_version": "somebody else's", "frame_rate": 7}))
    episode = load(root, "humanoid_everyday", "basic/pick_can/episode_0")
    assert_allclose(episode.columns["action"][2, :28], raw_layouts.joints(2, 28, 2.5), atol=1e-6)
    assert_allclose(episode.timestamps, np.arange(3) / 30)
    assert "wrists" not in episode.columns


@pytest.mark.parametrize(("hand", "walks"), [("ee", False), ("hand", True)])
def test_unitree_numbers_and_cameras(tmp_path: Path, hand: str, walks: bool) -> None:
    root = raw_layouts.unitree(tmp_path / "cups", episodes=1, hand=hand, walks=walks)
    episode = load(root, "unitree", "episode_0000")
    frame = raw_layouts.unitree_frame(4, hand=hand)
    parts = [f"left_{hand}", f"right_{hand}", "left_arm", "right_arm"]
    for column, group in (("observation.state", "states"), ("action", "actions")):
        expected = np.concatenate([frame[group][part]["qpos"] for part in parts])
        assert_allclose(episode.columns[column][4, :28], expected, atol=1e-6)
        assert episode.columns[column][4, 31] == 0.75
    assert episode.instruction == "Pick up the red cup." and episode.frame_rate == 30
    assert_allclose(episode.timestamps, np.arange(12) / 30)
    assert episode.columns["action"][4, 32:35].tolist() == pytest.approx([0.3, 0.1, -0.2] if walks else [0, 0, 0])
    assert sum(episode.action_mask or ()) == (31 if walks else 28) and sum(episode.state_mask or ()) == 28
    assert np.abs(list(episode.images(32, 24))[5].astype(int) - raw_layouts.picture(5)).mean() < 4
    files = [path.as_posix() for path in folder_files(root)]
    black = IMPORTERS["unitree"](root, files, Options(camera="color_1")).load("episode_0000")
    assert next(black.images(32, 24)).max() == 0
    with pytest.raises(BadEpisode, match="no picture of camera wrist in some frames; there is color_0, color_1"):
        next(IMPORTERS["unitree"](root, files, Options(camera="wrist")).load("episode_0000").images(32, 24))


def test_unitree_with_grippers_is_another_robot(tmp_path: Path) -> None:
    root = raw_layouts.unitree(tmp_path, episodes=1)
    path = root / "episode_0000/data.json"
    content = json.loads(path.read_text())
    for frame in content["data"]:
        frame["states"]["left_ee"]["qpos"] = [0.1]
    path.write_text(json.dumps(content))
    with pytest.raises(OtherRobot, match="left_ee holds 1 numbers"):
        load(root, "unitree", "episode_0000")


def test_pictures_outside_of_color(tmp_path: Path) -> None:
    root = raw_layouts.teleoperation(tmp_path, episodes=1)
    folder = root / "episode_0"
    (folder / "color").rename(folder / "rgb")
    (folder / "depth").mkdir()
    (folder / "depth/frame_000000.png").write_bytes(b"")
    frames = json.loads((folder / "data.json").read_text())
    for frame in frames:
        frame["image"] = frame["image"].replace("color/", "rgb/")
    (folder / "data.json").write_text(json.dumps(frames))
    files = [path.as_posix() for path in folder_files(root)]
    importer = IMPORTERS["teleoperation"](root, files)
    assert importer.names == ["episode_0"] and len(importer.files_of("episode_0")) == 1 + 1 + 12
    assert len(list(importer.load("episode_0").images(32, 24))) == 12


def test_the_format_is_told_by_the_first_file_that_parses(tmp_path: Path) -> None:
    root = raw_layouts.teleoperation(tmp_path, episodes=3)
    files = [path.as_posix() for path in folder_files(root)]
    for content in ("", "[]", json.dumps({"frames": [{"states": {"qpos": [0.0], "quat": [1, 0, 0, 0]}}]})):
        (root / "episode_0/data.json").write_text(content)
        assert detect_format(files, lambda file: (root / file).read_bytes(), "here") == "teleoperation"
    with pytest.raises(BadEpisode, match="raw_to_lerobot_v2"):
        IMPORTERS["teleoperation"](root, files).load("episode_0")
    for episode in (1, 2):
        (root / f"episode_{episode}/data.json").write_text("[{}]")
    with pytest.raises(Psi0Error, match=r"cannot be told from episode_0/data.json and 2 more .*name it in `format`"):
        detect_format(files, lambda file: (root / file).read_bytes(), "here")


def test_lerobot_2_with_wrong_metadata(tmp_path: Path) -> None:
    root = raw_layouts.lerobot_2(tmp_path, video_path="videos/{video_key}/nowhere/{episode_index}.mp4")
    assert names(root, "lerobot") == ["episode_000000", "episode_000001", "episode_000002"]
    episode = load(root, "lerobot", "episode_000002")
    assert episode.instruction == "pick up the can" and episode.frame_rate == 10
    assert_allclose(episode.timestamps, np.arange(15) / 10, atol=1e-4)
    assert_allclose(episode.columns["observation.state"][3], raw_layouts.joints(3, 32, 2), atol=1e-6)
    assert_allclose(episode.columns["action"][3], raw_layouts.joints(3, 36, 3), atol=1e-6)
    images = list(episode.images(32, 24))
    assert len(images) == 15 and np.abs(images[8].astype(int) - raw_layouts.picture(8)).mean() < 8


def unitree_name(name: str) -> str:
    """`left_hand_thumb_0_joint` as Unitree's datasets write it: `kLeftHandThumb0`."""
    return "k" + "".join(part.capitalize() for part in name.removesuffix("_joint").split("_"))


@pytest.mark.parametrize("spell", [str, unitree_name, lambda name: f"main.{name.removesuffix('_joint')}"])
def test_lerobot_columns_are_mapped_by_name(tmp_path: Path, spell: Callable[[str], str]) -> None:
    from psi0.robot.layout import ARM_JOINTS, HAND_JOINTS, UPPER_BODY_JOINTS

    root = raw_layouts.lerobot_2(tmp_path, episodes=1, state="observation.state", action="action")
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path).drop_columns(["observation.state", "action"])
    rows = np.arange(15 * 28, dtype=np.float32).reshape(15, 28) / 1000
    for column in ("observation.state", "action"):
        table = table.append_column(column, pa.array(rows.tolist()))
    pq.write_table(table, path)
    info = json.loads((root / "meta/info.json").read_text())
    order = [spell(name) for name in (*ARM_JOINTS, *HAND_JOINTS)]
    for column in ("observation.state", "action"):
        info["features"][column] = {"dtype": "float32", "shape": [28], "names": [order]}
    (root / "meta/info.json").write_text(json.dumps(info))
    episode = load(root, "lerobot", "episode_000000")
    expected = {name: rows[:, (*ARM_JOINTS, *HAND_JOINTS).index(name)] for name in UPPER_BODY_JOINTS}
    for position, name in enumerate(UPPER_BODY_JOINTS):
        assert_allclose(episode.columns["action"][:, position], expected[name])
    assert sum(episode.action_mask or ()) == 28
    assert episode.columns["action"][:, 31].tolist() == pytest.approx([0.75] * 15)
    info["features"]["action"]["names"] = [[*order[:27], "right_gripper"]]
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(BadEpisode, match="action holds right_gripper, which this robot does not have"):
        load(root, "lerobot", "episode_000000")
    table = table.drop_columns(["action"]).append_column("action", pa.array([[0.0] * 9] * 15))
    pq.write_table(table, path)
    with pytest.raises(BadEpisode, match="action holds 9 numbers"):
        load(root, "lerobot", "episode_000000")


@pytest.mark.parametrize("hands", ["left_hand_{}", "left_hand_{}_joint"])
def test_published_names_of_36_numbers(hands: str) -> None:
    from psi0.data.number_names import places
    from psi0.robot.layout import ACTION_NAMES, ARM_JOINTS, STATE_NAMES

    arms = [
        name.replace("left_", "left_arm_").replace("right_", "right_arm_").removesuffix("_joint") for name in ARM_JOINTS
    ]
    upper = [*(hands.format(i) for i in range(7)), *(hands.replace("left", "right").format(i) for i in range(7)), *arms]
    action = [*upper, "torso_roll", "torso_pitch", "torso_yaw", "torso_height", "torso_vx", "torso_vy", "torso_vyaw"]
    assert places([*action, "target_yaw"], 36, ACTION_NAMES, "action") == list(range(36))
    swapped = ["target_yaw", *action]
    assert places(swapped, 36, ACTION_NAMES, "action") == [35, *range(35)]
    state = [*upper, *(f"prev_torso_rpy_{i}" for i in range(3)), "prev_height"]
    assert places(state, 32, STATE_NAMES, "state") == list(range(32))
    with pytest.raises(BadEpisode, match="action names torso_vx twice"):
        places([*action, "vx"], 36, ACTION_NAMES, "action")


def test_the_most_head_like_camera_comes_first(tmp_path: Path) -> None:
    from psi0.data.lerobot_layout import LeRobotFolder

    cameras = ["cam_left_wrist", "cam_right_wrist", "side", "cam_left_high", "observation.images.head"]
    raw_layouts.lerobot_2(tmp_path, episodes=1, cameras=tuple(cameras))
    assert LeRobotFolder(tmp_path).cameras == [*reversed(cameras[2:]), *cameras[:2]]


def test_euler_angles_follow_scipy() -> None:
    from psi0.data.task_space import euler, rotation

    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (50, 3))
    expected = Rotation.from_euler("xyz", angles).as_matrix()
    assert_allclose(rotation(angles), expected, atol=1e-12)
    assert_allclose(euler(expected), angles, atol=1e-9)
