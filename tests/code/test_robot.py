"""The robot: orders, limits, assets, gains, kinematics, System-0."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_file, sha256_folder, write_json
from psi0.params import Params, Robot
from psi0.robot import assets, layout
from psi0.robot.constants import NOMINAL_HEIGHT, servo_gains
from psi0.robot.kinematics import ArmKinematics
from psi0.robot.limits import Limits, load_limits
from psi0.robot.model import head_camera_field_of_view, read_model, robot_spec
from psi0.robot.stage import make_robot
from psi0.robot.system0 import Proprioception, WalkingPolicy, hidden_offset


@pytest.fixture(scope="module")
def limits(robot_folder: Path) -> Limits:
    return load_limits(robot_folder)


def test_the_layout_names_every_joint_once(robot_folder: Path) -> None:
    assert len(layout.ALL_JOINTS) == len(set(layout.ALL_JOINTS)) == 43
    assert (layout.ACTION_SIZE, layout.STATE_SIZE) == (36, 32)
    actuated = {actuator.target for actuator in read_model(robot_folder).actuators}
    assert actuated == set(layout.ALL_JOINTS)


def test_hands_order_their_fingers_differently() -> None:
    left = [name.removeprefix("left_") for name in layout.LEFT_HAND_JOINTS]
    right = [name.removeprefix("right_") for name in layout.RIGHT_HAND_JOINTS]
    assert left != right and sorted(left) == sorted(right)


def test_gains_are_those_of_the_network() -> None:
    import onnxruntime

    network = onnxruntime.InferenceSession(str(assets.system0_weights()), providers=["CPUExecutionProvider"])
    metadata = network.get_modelmeta().custom_metadata_map
    for joint, stiffness, damping in zip(
        json.loads(metadata["dof_names"]), json.loads(metadata["kp"]), json.loads(metadata["kd"]), strict=True
    ):
        if joint in layout.LOWER_BODY_JOINTS:
            assert servo_gains(joint) == pytest.approx((stiffness, damping))
    assert tuple(json.loads(metadata["dof_names"])) == layout.LOWER_BODY_JOINTS + layout.ARM_JOINTS


def test_limits_refuse_what_cannot_be_executed(limits: Limits) -> None:
    good = (limits.action_low + limits.action_high) / 2
    assert limits.complaint(good) is None
    elbow = layout.ACTION_NAMES.index("right_elbow_joint")
    for value, found in ((np.nan, "nan"), (np.inf, "inf"), (3.0, "outside")):
        bad = good.copy()
        bad[elbow] = value
        complaint = limits.complaint(bad)
        assert complaint is not None and "right_elbow_joint" in complaint and found in complaint
    assert "(35,)" in str(limits.complaint(good[:35]))
    assert limits.complaint("raise the arm") is not None
    slightly = good.copy()
    slightly[elbow] = limits.action_high[elbow] + 0.01
    assert limits.complaint(slightly) is None
    assert limits.clip(slightly)[elbow] == pytest.approx(limits.action_high[elbow])


def test_limits_file_of_another_robot_is_refused(robot_folder: Path, tmp_path: Path) -> None:
    content = read_json(robot_folder / "limits.json")
    del content["joints"]["left_knee_joint"]
    write_json(tmp_path / "limits.json", content)
    with pytest.raises(Psi0Error, match="dvc repro robot"):
        load_limits(tmp_path)
    write_json(tmp_path / "limits.json", {"schema_version": 1, "joints": {"left_knee_joint": {"low": "deep"}}})
    with pytest.raises(Psi0Error, match=r"limits\.json"):
        load_limits(tmp_path)


def test_an_altered_or_missing_asset_is_named(tmp_path: Path) -> None:
    name, original = next(iter(assets.robot_files().items()))
    copy = tmp_path / Path(name).name
    shutil.copy(original, copy)
    assert assets.check_file(copy, sha256_file(original)) == copy
    copy.write_bytes(copy.read_bytes() + b" ")
    with pytest.raises(Psi0Error, match=r"altered.*make setup"):
        assets.check_file(copy, sha256_file(original))
    with pytest.raises(Psi0Error, match=r"missing.*make setup"):
        assets.check_file(tmp_path / "nothing.STL", "0" * 64)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "SYSTEM0_PACKAGE", ("holosoma-inference-of-nobody", "0.1.3"))
    assets.system0_weights.cache_clear()
    try:
        with pytest.raises(
            Psi0Error, match=r"holosoma-inference-of-nobody==0\.1\.3 is not installed; run `make setup`"
        ):
            assets.system0_weights()
    finally:
        assets.system0_weights.cache_clear()


def test_the_stage_writes_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hashes = []
    for _ in range(2):
        make_robot(Params(robot=Robot(faces_per_mesh=100)))
        hashes.append(sha256_folder(Path("data/robot")))
    assert hashes[0] == hashes[1]
    manifest = read_json(Path("data/robot/manifest.json"))
    assert {"g1_with_hands.xml", "limits.json", "LICENSE"} <= set(manifest["files"])
    assert manifest["system0"]["sha256"] == sha256_file(assets.system0_weights())
    assert not list(Path("data/robot").rglob("*.onnx"))


def test_a_robot_folder_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(Psi0Error, match="dvc repro robot"):
        robot_spec(tmp_path)
    (tmp_path / "g1_with_hands.xml").write_text("<mujoco><worldbody>")
    with pytest.raises(Psi0Error, match=r"g1_with_hands\.xml cannot be read"):
        robot_spec(tmp_path)


@pytest.mark.parametrize("side", layout.SIDES)
def test_inverse_kinematics_comes_back_to_where_it_was(robot_folder: Path, side: str) -> None:
    arm = ArmKinematics(robot_folder, side)
    start = arm.neutral.copy()
    goal = start + np.array([-0.4, 0.1, 0.1, 0.3, 0.1, -0.1, 0.1])
    position, rotation = arm.forward(goal)
    found = start
    for _ in range(5):
        found, miss = arm.solve(position, rotation, found)
    assert miss < 0.005
    assert np.linalg.norm(arm.forward(found)[0] - position) == pytest.approx(miss, abs=1e-6)


def test_system0_stands_still_in_the_dead_zone_and_steps_outside_of_it() -> None:
    def felt() -> Proprioception:
        legs, arms, upright = np.zeros(15), np.zeros(14), np.array([1.0, 0.0, 0.0, 0.0])
        return Proprioception(legs, legs, np.zeros(3), upright, arms, arms)

    command = np.zeros(8)
    command[3] = NOMINAL_HEIGHT

    def answers(*velocities: float) -> np.ndarray:
        """What it answers to one velocity after the other, 20 ticks each."""
        policy, moving, found = WalkingPolicy(), command.copy(), []
        for velocity in velocities:
            moving[4] = velocity
            found += [policy.step(felt(), moving) for _ in range(20)]
        return np.array(found)

    assert np.array_equal(answers(0.0), answers(0.04))
    assert np.abs(answers(0.3) - answers(0.0)).max() > 0.1
    assert answers(0.0).shape == (20, 15)
    assert np.array_equal(answers(0.0), answers(0.19)), "who stands does not set off at less than 0.2"
    stopped = answers(0.3, 0.0)
    assert np.array_equal(answers(0.3, 0.11), stopped), "who walks stands below 0.12"
    assert np.abs(answers(0.3, 0.13) - stopped).max() > 0.1, "and walks on above it"


def test_height_and_torso_are_offsets_of_legs_and_waist() -> None:
    command = np.array([0.1, 0.2, 0.3, 0.638, 0.0, 0.0, 0.0, 0.0])
    offset = dict(zip(layout.LOWER_BODY_JOINTS, hidden_offset(command), strict=True))
    assert offset["left_knee_joint"] == pytest.approx(0.6) and offset["right_hip_pitch_joint"] == pytest.approx(-0.3)
    assert [offset[f"waist_{axis}_joint"] for axis in ("roll", "pitch", "yaw")] == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(("height", "width", "degrees"), [(80, 144, 41.8), (240, 320, 42.0), (42, 420, 7.9)])
def test_a_picture_shows_no_more_than_the_camera_sees(height: int, width: int, degrees: float) -> None:
    down = head_camera_field_of_view(height, width)
    across = 2 * np.rad2deg(np.arctan(np.tan(np.deg2rad(down) / 2) * width / height))
    assert down == pytest.approx(degrees, abs=0.1) and across <= 69.0 + 1e-9 and down <= 42.0 + 1e-9
