"""The simulated world: the same every time, honest about failures, and a demonstrator that does the task."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from psi0.errors import Psi0Error
from psi0.params import Camera, Control
from psi0.policy import Policy
from psi0.robot.layout import ACTION_NAMES, ActionPart
from psi0.robot.model import HEAD_CAMERA
from psi0.sim.clock import ControlClock
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.demonstrators.disturbance import Disturbance
from psi0.sim.script import make_script
from psi0.sim.tasks import TASKS, make_task
from psi0.sim.variation import LEVELS
from psi0.sim.world import InvalidSeed, Outcome, World, make_world, standing_command

CAMERA = Camera(width=64, height=48)


@pytest.fixture(scope="module")
def world(robot_folder: Path) -> Iterator[World]:
    made = make_world("pick_can", Control(), CAMERA, robot_folder=robot_folder)
    yield made
    made.close()


def run(world: World, policy: Policy, seed: int, most_steps: int = 1000) -> Outcome | None:
    world.reset(seed)
    policy.reset(seed)
    outcome = None
    while outcome is None and world.steps < most_steps:
        outcome = world.step(policy.act(world.observe())[0])
    return outcome


def trace(world: World, seed: int) -> tuple[str, str]:
    """Hashes of all positions and of the pictures of a short episode."""
    policy = make_demonstrator(world)
    world.reset(seed)
    policy.reset(seed)
    pixels = hashlib.sha256()
    for _ in range(12):
        pixels.update(world.head_camera().tobytes())
        world.step(policy.act(world.observe())[0])
    return world.qpos_sha256(), pixels.hexdigest()


def test_the_same_seed_gives_the_same_episode_also_in_another_process(world: World, robot_folder: Path) -> None:
    first = trace(world, 600000)
    trace(world, 600001)
    assert trace(world, 600000) == first
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_world import *; "
        "print(*trace(make_world('pick_can', Control(), CAMERA, robot_folder=Path(sys.argv[2])), 600000))"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(robot_folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert tuple(fresh.stdout.split()) == first


@pytest.mark.parametrize("seed", [600000, 600001, 600002])
def test_the_demonstrator_picks_the_can(world: World, seed: int) -> None:
    policy = make_demonstrator(world)
    assert policy.privileged
    outcome = run(world, policy, seed)
    assert outcome == Outcome(True, "success")
    assert world.view.position("can")[2] > 0.74 + 0.06 + 0.09


def test_what_a_policy_sees_has_the_contract_shapes(world: World) -> None:
    world.reset(600000)
    assert world.head_camera().shape == (48, 64, 3) and world.head_camera().dtype == np.uint8
    assert world.state().shape == (32,) and world.state().dtype == np.float32
    assert world.key_points().shape == (3, 5)
    assert world.third_person(60, 80).shape == (60, 80, 3)
    assert world.instruction in world.task.instructions
    assert world.describe()["seed"] == 600000
    assert world.max_steps == 200


def test_key_points_lie_on_the_can_in_the_picture(robot_folder: Path) -> None:
    world = make_world("pick_can", Control(), Camera(width=256, height=192), robot_folder=robot_folder)
    world.reset(600000)
    _, _, _, u, v = world.key_points()[0]
    row, column = round((v + 1) / 2 * 192), round((u + 1) / 2 * 256)
    red, green, blue = world.head_camera()[row, column].astype(int)
    assert red > 1.5 * green and red > 1.5 * blue


def test_the_picture_alone_says_where_key_points_are_however_the_robot_leans(world: World) -> None:
    world.reset(600000)
    camera = world.model.camera(HEAD_CAMERA)
    axes = Rotation.from_quat(camera.quat, scalar_first=True).as_matrix()
    focal = 1 / np.tan(np.deg2rad(camera.fovy[0]) / 2)
    command = standing_command()
    command[ActionPart.TORSO], command[ActionPart.VELOCITY] = (0.1, 0.2, 0.2), (0.2, 0.1, 0.0)
    for _ in range(12):
        point, u, v = (world.key_points()[0, part] for part in (slice(3), 3, 4))
        right, up, back = (point - camera.pos) @ axes
        assert [focal * right / -back * 48 / 64, -focal * up / -back] == pytest.approx([u, v], abs=1e-4)
        world.step(command)


@pytest.mark.parametrize(("value", "found"), [(np.nan, "nan"), (9.0, "outside")])
def test_an_invalid_action_ends_the_episode_and_names_the_joint(world: World, value: float, found: str) -> None:
    world.reset(600000)
    action = standing_command()
    action[ACTION_NAMES.index("left_elbow_joint")] = value
    outcome = world.step(action)
    assert outcome is not None and not outcome.success and outcome.tag == "invalid_action"
    assert "left_elbow_joint" in outcome.detail and found in outcome.detail


def test_an_action_of_the_wrong_length_is_invalid(world: World) -> None:
    world.reset(600000)
    outcome = world.step(standing_command()[:32])
    assert outcome is not None and outcome.tag == "invalid_action" and "(32,)" in outcome.detail


def test_standing_about_times_out_as_not_reached(world: World) -> None:
    world.reset(600000)
    outcome = None
    while outcome is None:
        outcome = world.step(standing_command())
    assert outcome == Outcome(False, "not_reached") and world.steps == world.max_steps


def test_a_robot_that_throws_itself_over_has_fallen(world: World) -> None:
    world.reset(600000)
    action = standing_command()
    action[ACTION_NAMES.index("torso_pitch")] = -0.52
    action[ACTION_NAMES.index("height")] = 0.55
    action[ACTION_NAMES.index("velocity_x")] = -1.0
    action[ACTION_NAMES.index("velocity_yaw")] = 1.0
    outcome = None
    while outcome is None:
        outcome = world.step(action)
    assert outcome.tag in ("fell", "limit") and outcome.detail


def test_a_can_that_falls_off_the_table_ends_the_episode(world: World) -> None:
    world.reset(600000)
    world.view.place("can", np.array([0.8, 0.0, 0.5]), np.array([1.0, 0.0, 0.0, 0.0]))
    outcome = None
    while outcome is None:
        outcome = world.step(standing_command())
    assert outcome.tag == "not_grasped" and world.steps < 20


def test_a_can_that_starts_in_the_air_is_an_invalid_seed(robot_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("pick_can", Control(), CAMERA, robot_folder=robot_folder, render=False)
    monkeypatch.setattr("psi0.sim.tasks.pick_can.TABLE_HEIGHT", 1.2)
    with pytest.raises(InvalidSeed, match="can"):
        world.reset(600000)


@pytest.mark.parametrize("level", LEVELS)
def test_levels_change_the_looks_and_only_the_widest_the_poses(world: World, robot_folder: Path, level: str) -> None:
    other = make_world("pick_can", Control(), CAMERA, level=level, robot_folder=robot_folder)  # type: ignore[arg-type]
    pictures = []
    for seed in (600000, 600001):
        world.reset(seed)
        other.reset(seed)
        moved = np.abs(world.key_points()[:, :3] - other.key_points()[:, :3]).max()
        assert moved > 0.02 if level == "L2" else moved < 0.02
        pictures.append(other.head_camera())
    assert (pictures[0] != pictures[1]).mean() > 0.5
    assert (level == "L0") == np.array_equal(world.head_camera(), other.head_camera())


@pytest.mark.parametrize("rate", [10, 25, 30, 50])
def test_control_steps_follow_the_clock_at_any_rate(rate: int) -> None:
    clock = ControlClock(rate)
    lengths = np.diff([clock.begins(step) for step in range(rate + 1)])
    assert clock.begins(rate) == 250
    assert lengths.max() - lengths.min() <= 1
    for step in range(rate):
        ticks = [p for p in range(clock.begins(step), clock.begins(step + 1)) if clock.is_tick(p)]
        assert ticks and 0 < clock.share_done(ticks[0], step) <= 1


def test_the_demonstrator_also_acts_at_30_hz(robot_folder: Path) -> None:
    world = make_world("pick_can", Control(policy_hz=30), CAMERA, robot_folder=robot_folder, render=False)
    outcome = run(world, make_demonstrator(world), 600000)
    assert outcome is not None and outcome.success


def test_a_rate_above_system0_is_refused(robot_folder: Path) -> None:
    with pytest.raises(Psi0Error, match="policy_hz is 60"):
        make_world("pick_can", Control(policy_hz=60), CAMERA, robot_folder=robot_folder, render=False)


def test_the_script_is_not_privileged_and_ignores_where_the_can_is(world: World) -> None:
    script = make_script(world)
    assert not script.privileged
    actions = []
    for y in (-0.2, 0.2):
        world.reset(600000)
        world.view.place("can", np.array([0.15, y, 0.801]), np.array([1.0, 0.0, 0.0, 0.0]))
        script.reset(600000)
        actions.append([])
        for _ in range(20):
            actions[-1].append(script.act(world.observe())[0])
            world.step(actions[-1][-1])
    assert np.array_equal(actions[0], actions[1])


def test_disturbance_leaves_standing_robots_and_the_idle_hand_alone() -> None:
    disturbance = Disturbance(10, 1.0, seed=5)
    action = standing_command().astype(np.float32)
    executed = np.array([disturbance.disturb(action) for _ in range(50)])
    assert np.array_equal(executed[:, 28:], np.tile(action[28:], (50, 1)))
    assert np.array_equal(executed[:, :7], np.tile(action[:7], (50, 1)))
    assert 0 < executed[:, 14:28].std(axis=0).max() < 0.2
    assert np.array_equal(Disturbance(10, 0.0, seed=5).disturb(action), action)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(Psi0Error, match="'fold_towel' does not exist; known tasks: pick_can"):
        make_task("fold_towel")
    assert "pick_can" in TASKS


def test_without_any_renderer_one_line_says_what_to_install(robot_folder: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from psi0.params import Camera, Control; "
        "from psi0.errors import Psi0Error; from psi0.sim.world import make_world\n"
        "try: make_world('pick_can', Control(), Camera(), robot_folder=Path(sys.argv[1]))\n"
        "except Psi0Error as error: print(error)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(robot_folder)],
        env={**os.environ, "MUJOCO_GL": "disabled"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "apt-get install" in answer.stdout and len(answer.stdout.strip().splitlines()) == 1
