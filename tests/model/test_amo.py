"""AMO as System-0: it is shown what the official code shows it, and its answers reach the right joints.

The expected numbers are written with the official code's positions in the observation, not with psi0's names.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_amo import (
    BATCH_MEAN,
    BATCH_VARIANCE,
    BIAS,
    STATISTICS,
    WEIGHT,
    BreaksWhenWalking,
    Constant,
    OnTheGraphicsCard,
    Telltale,
    write_amo,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_file, sha256_folder, write_json
from psi0.params import Camera, Control, Params, Robot
from psi0.robot.amo import AmoPolicy
from psi0.robot.amo_networks import ADAPTER_FILE, AMO_FILES, POLICY_FILE, STATISTICS_FILE
from psi0.robot.layout import LOWER_BODY_JOINTS
from psi0.robot.stage import make_robot
from psi0.robot.system0 import Proprioception, WalkingPolicy
from psi0.robot.system0_folder import load_system0, put_system0
from psi0.sim.world import Outcome, World, make_world, standing_command

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

LEGS = [-0.1, 0.0, 0.0, 0.3, -0.2, 0.0] * 2
STANCE = np.array([*LEGS, 0.0, 0.0, 0.0])
DEFAULT = np.array([*STANCE, 0.5, 0.0, 0.2, 0.3, 0.5, 0.0, -0.2, 0.3])
SEEN_ARMS = [0, 1, 2, 3, 7, 8, 9, 10]
COMMAND = np.array([0.11, 0.12, 0.13, 0.7, 0.3, -0.2, 0.05, 0.4])
"""Torso roll, pitch, yaw, height, vx, vy, vyaw, target yaw."""
ACTION = np.linspace(-50.0, 50.0, 15)


def felt(tick: int) -> Proprioception:
    """Something else at every tick; the pelvis turns by 0.1 rad a tick and leans."""
    random = np.random.default_rng(tick)
    yaw, pitch = 0.5 + 0.1 * tick, 0.2
    turned = [
        np.cos(yaw / 2) * np.cos(pitch / 2),
        -np.sin(yaw / 2) * np.sin(pitch / 2),
        np.cos(yaw / 2) * np.sin(pitch / 2),
        np.sin(yaw / 2) * np.cos(pitch / 2),
    ]
    legs, arms = random.normal(size=(2, 15)), random.normal(size=(2, 14))
    return Proprioception(legs[0], legs[1], random.normal(size=3), np.array(turned), arms[0], arms[1])


def raw(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the network answered, of targets."""
    return (targets - STANCE) / 0.25


Heard = tuple[NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Heard]:
    """The two inputs `(1043,)` and `(2325,)` of the network at a tick."""
    folder = tmp_path_factory.mktemp("telltale")

    def listen(tick: int, commands: Callable[[int], NDArray[np.float64]] = lambda _: COMMAND) -> Heard:
        policy = AmoPolicy(write_amo(folder, Telltale(torch.from_numpy(ACTION).float(), tick)))
        for now in range(tick + 1):
            policy.step(felt(now), commands(now))
        told = [raw(policy.step(felt(0), COMMAND)) for _ in range(-(-3368 // 15))]
        both = np.concatenate(told)[:3368]
        return both[:1043], both[1043:]

    return listen


def adapted(tick: int) -> NDArray[np.float64]:
    """What the adapter makes of a tick."""
    values = np.concatenate([[0.7, 0.13, 0.12, 0.11], felt(tick).arm_position[SEEN_ARMS]])
    standard = (values - STATISTICS["input_mean"]) / STATISTICS["input_std"]
    normal = (WEIGHT @ standard + BIAS - BATCH_MEAN) / np.sqrt(BATCH_VARIANCE + 1e-5)
    return np.where(normal > 0, normal, 0.01 * normal) * STATISTICS["output_std"] + STATISTICS["output_mean"]


def test_the_observation_is_the_official_one(heard: Callable[..., Heard]) -> None:
    observation, longer = heard(1)
    now, before = felt(1), felt(0)
    near = lambda values: pytest.approx(np.asarray(values), abs=2e-5)  # noqa: E731
    assert observation[0:3] == near(now.angular_velocity * 0.25)
    assert observation[3:5] == near([0.0, 0.2])
    assert observation[5:7] == near([np.sin(0.1 - 0.4), np.cos(0.1 - 0.4)])
    assert observation[7:30] == near(np.concatenate([now.position, now.arm_position[SEEN_ARMS]]) - DEFAULT)
    speed = np.concatenate([now.velocity, now.arm_velocity[SEEN_ARMS]]) * 0.05
    speed[[4, 5, 10, 11, 13, 14]] = 0.0
    assert observation[30:53] == near(speed)
    assert observation[53:68] == near(np.clip(ACTION, -40, 40))
    assert observation[68:76] == near((before.arm_position[SEEN_ARMS] - DEFAULT[15:]) / 0.25)
    assert observation[76:78] == near([1.0, -1.0])
    assert observation[78:93] == near(adapted(1))
    arms = now.arm_position[SEEN_ARMS]
    assert observation[93:110] == near([*arms, 0.3, -0.2, 0.0, 0.13, 0.12, 0.11, 0.7, 0.7, 0.7])
    assert observation[110:113] == near(np.zeros(3))
    assert observation[113:] == near(np.concatenate([np.zeros(9 * 93), longer[-2 * 93 : -93]]))
    assert longer == near(np.concatenate([np.zeros(23 * 93), longer[-2 * 93 : -93], observation[:93]]))


def test_histories_roll_the_shorter_one_without_the_present(heard: Callable[..., Heard]) -> None:
    same = partial(np.allclose, rtol=0.0, atol=1e-9)
    sensed = {tick: heard(tick)[0][:93] for tick in (5, 6, 19, 20, 28, 29, 30)}
    observation, longer = heard(30)
    rows = observation[113:].reshape(10, 93)
    assert same(rows[0], sensed[20]) and same(rows[-2:], [sensed[28], sensed[29]])
    rows = longer.reshape(25, 93)
    assert same(rows[0], sensed[6]) and same(rows[-3:], [sensed[28], sensed[29], sensed[30]])
    assert not same(sensed[19], sensed[20]) and not same(sensed[5], sensed[6])


def test_standing_it_forgets_its_heading_and_rests_its_gait(heard: Callable[..., Heard]) -> None:
    def astray(at: int, *velocities: float) -> list[float]:
        def commands(tick: int) -> NDArray[np.float64]:
            command = COMMAND.copy()
            command[4:7] = 0.0, 0.0, velocities[min(tick, len(velocities) - 1)]
            return command

        return [round(float(value), 3) for value in heard(at, commands)[0][[5, 76, 77]]]

    heading = round(float(np.sin(0.3 - 0.4)), 3)
    assert astray(3, 0.0) == [0.0, 1.0, 1.0], "standing"
    assert astray(3, 0.09) == [0.0, 1.0, 1.0], "below 0.1 it stands"
    # A tick late, as in the official code: the flag of this tick counts from the next.
    assert astray(3, 0.0, 0.0, 0.0, 0.5) == [0.0, 1.0, 1.0]
    step = 2 * np.pi * 1.3 * 0.02
    right, left = round(float(np.cos(2 * step)), 3), round(float(-np.cos(2 * step)), 3)
    assert astray(3, 0.5) == [heading, right, left], "two steps of 1.3 Hz after the feet were set apart"
    assert astray(3, 0.5, 0.5, 0.0) == [0.0, right, left], "too far from the ground to rest"
    assert astray(2, 0.5, 0.0)[1:] == [1.0, 1.0], "it rests at once where a foot is down"


def test_reset_forgets_the_episode(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def forward(self, observation: Tensor, history: Tensor) -> Tensor:
            return torch.sin(observation.sum() + history.sum()) + 0.0 * observation[:, :15]

    policy = AmoPolicy(write_amo(tmp_path, Sum()))

    def episode() -> NDArray[np.float64]:
        return np.array([policy.step(felt(tick), COMMAND) for tick in range(15)])

    first = episode()
    assert not np.array_equal(episode(), first)
    policy.reset()
    assert np.array_equal(episode(), first)


def test_answers_reach_the_joints_in_order_and_are_clipped(tmp_path: Path) -> None:
    action = torch.arange(15.0)
    action[3] = 1000.0
    targets = AmoPolicy(write_amo(tmp_path, Constant(action))).step(felt(0), COMMAND)
    by_joint = dict(zip(LOWER_BODY_JOINTS, targets, strict=True))
    assert by_joint["left_hip_pitch_joint"] == pytest.approx(-0.1)
    assert by_joint["left_knee_joint"] == pytest.approx(0.3 + 40 * 0.25)
    assert by_joint["right_ankle_pitch_joint"] == pytest.approx(-0.2 + 10 * 0.25)
    assert [by_joint[f"waist_{axis}_joint"] for axis in ("yaw", "roll", "pitch")] == pytest.approx([3.0, 3.25, 3.5])


def test_a_file_made_for_a_graphics_card_runs_here(tmp_path: Path) -> None:
    answer = raw(AmoPolicy(write_amo(tmp_path, OnTheGraphicsCard())).step(felt(0), COMMAND))
    assert answer[:3] == pytest.approx(felt(0).angular_velocity * 0.25, abs=1e-5)


@pytest.mark.parametrize(
    "convert",
    [
        lambda values: torch.from_numpy(values)[None],
        lambda values: values.astype(np.float32),
        lambda values: values.tolist(),
    ],
    ids=["tensors", "float32 arrays", "lists"],
)
def test_statistics_may_be_tensors_arrays_or_lists(
    convert: Callable[[NDArray[np.float64]], object], tmp_path: Path
) -> None:
    expected = AmoPolicy(write_amo(tmp_path)).step(felt(0), COMMAND)
    torch.save({name: convert(values) for name, values in STATISTICS.items()}, tmp_path / STATISTICS_FILE)
    assert AmoPolicy(tmp_path).step(felt(0), COMMAND) == pytest.approx(expected)


class Takes(nn.Module):
    """Two inputs of the given widths, so many answers."""

    def __init__(self, observation: int = 1043, history: int = 2325, answers: int = 15, value: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(observation + history, answers)
        self.layer.bias.data[:] = value

    def forward(self, observation: Tensor, history: Tensor) -> Tensor:
        return self.layer(torch.cat([observation, history], 1))


class OneInput(nn.Module):
    def forward(self, observation: Tensor) -> Tensor:
        return observation[:, :15]


class TwoAnswers(nn.Module):
    def forward(self, observation: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        return observation[:, :15], history


class Unsafe:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run while it was read",)


def statistics(**changed: object) -> Callable[[Path], None]:
    return lambda path: torch.save({**STATISTICS, **changed}, path)


def script(network: nn.Module) -> Callable[[Path], None]:
    return lambda path: torch.jit.save(torch.jit.script(network), path)


@pytest.mark.parametrize(
    ("name", "spoil", "found"),
    [
        *((name, Path.unlink, "is missing") for name in AMO_FILES),
        *((name, lambda path: path.write_text("weights"), "cannot be read|is not TorchScript") for name in AMO_FILES),
        *(
            (name, lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"), "LFS")
            for name in AMO_FILES
        ),
        (POLICY_FILE, lambda path: torch.save(STATISTICS, path), "is not TorchScript"),
        (POLICY_FILE, script(Takes(observation=1042)), r"\(1, 1043\) and \(1, 2325\): .*cannot be multiplied"),
        (POLICY_FILE, script(Takes(history=93)), r"cannot be run on inputs \(1, 1043\) and \(1, 2325\)"),
        (POLICY_FILE, script(OneInput()), "cannot be run"),
        (POLICY_FILE, script(Takes(answers=14)), r"answers with \(1, 14\), expected \(1, 15\)"),
        (POLICY_FILE, script(TwoAnswers()), "answers with tuple"),
        (POLICY_FILE, script(Takes(value=np.nan)), "NaN or infinity"),
        (ADAPTER_FILE, script(nn.Linear(11, 15)), r"cannot be run on inputs \(1, 12\)"),
        (ADAPTER_FILE, script(nn.Linear(12, 12)), r"answers with \(1, 12\), expected \(1, 15\)"),
        (STATISTICS_FILE, lambda path: torch.save({"input_mean": STATISTICS["input_mean"]}, path), "has no input_std"),
        (STATISTICS_FILE, lambda path: torch.save([1, 2], path), "holds list"),
        (STATISTICS_FILE, statistics(output_std=np.ones(12)), "output_std has 12 numbers, expected 15"),
        (STATISTICS_FILE, statistics(input_std=np.full(12, np.inf)), "all finite"),
        (STATISTICS_FILE, statistics(input_std="wide"), "input_std is not a row of numbers"),
        (STATISTICS_FILE, statistics(extra=Unsafe()), "cannot be read"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(
    name: str, spoil: Callable[[Path], object], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(write_amo(tmp_path) / name)
    with pytest.raises(Psi0Error, match=rf"{name}.*({found})") as caught:
        AmoPolicy(tmp_path)
    assert "\n" not in str(caught.value)
    assert not capsys.readouterr().out


def test_an_answer_that_becomes_infinite_later_is_named_but_not_what_follows_from_a_broken_simulation(
    tmp_path: Path,
) -> None:
    policy = AmoPolicy(write_amo(tmp_path, BreaksWhenWalking()))
    policy.step(felt(0), np.zeros(8))
    with pytest.raises(Psi0Error, match=rf"{POLICY_FILE} answers with NaN"):
        policy.step(felt(1), COMMAND)
    lost = replace(felt(2), position=np.full(15, np.nan))
    assert not np.isfinite(policy.step(lost, COMMAND)).all()


def test_without_torch_amo_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_amo(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Psi0Error, match=r"torch is not installed; .*psi0\[train\]"):
        AmoPolicy(tmp_path)


# The robot folder


@pytest.fixture(scope="module")
def amo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AMO that holds its stance."""
    return write_amo(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def amo_robot(robot_folder: Path, amo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The robot with it."""
    folder = tmp_path_factory.mktemp("amo") / "robot"
    shutil.copytree(robot_folder, folder)
    put_system0(str(amo), folder)
    return folder


def test_the_stage_copies_the_files_and_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_amo(Path("given"))
    make_robot(Params(robot=Robot(faces_per_mesh=60, system0="given")))
    record = read_json(Path("data/robot/system0/system0.json"))
    assert record == {
        "schema_version": 1,
        "kind": "amo",
        "files": {name: sha256_file(Path("given") / name) for name in AMO_FILES},
    }
    assert read_json(Path("data/robot/manifest.json"))["system0"] == {"kind": "amo", "files": record["files"]}
    shutil.rmtree("given")
    assert isinstance(load_system0(Path("data/robot")), AmoPolicy)
    before = sha256_folder(Path("data/robot"))
    for choice, found in (
        ("given", "robot.system0 is 'given', which is no folder"),
        (".", f"{POLICY_FILE} is missing"),
    ):
        with pytest.raises(Psi0Error, match=found):
            make_robot(Params(robot=Robot(faces_per_mesh=60, system0=choice)))
    assert sha256_folder(Path("data/robot")) == before


@pytest.mark.parametrize("name", [*AMO_FILES, "system0.json"])
def test_a_copy_that_was_altered_or_is_gone_is_refused(name: str, amo: Path, tmp_path: Path) -> None:
    put_system0(str(amo), tmp_path)
    path = tmp_path / "system0" / name
    path.write_bytes(path.read_bytes() + b" {")
    with pytest.raises(Psi0Error, match=rf"{name} (was altered|is not valid JSON)"):
        load_system0(tmp_path)
    path.unlink()
    with pytest.raises(Psi0Error, match=rf"{name} is missing"):
        load_system0(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"schema_version": 2, "files": {}}, "schema_version"),
        ({"schema_version": 1, "kind": "another", "files": {}}, "kind"),
        ({"schema_version": 1, "files": {POLICY_FILE: "0" * 64}}, "does not list"),
        ([], "its content"),
    ],
)
def test_a_record_of_something_else_is_refused(content: object, found: str, tmp_path: Path) -> None:
    write_json(tmp_path / "system0/system0.json", content)
    with pytest.raises(Psi0Error, match=rf"system0\.json.*{found}.*dvc repro -f robot"):
        load_system0(tmp_path)


def test_the_walking_policy_leaves_no_trace_and_needs_no_torch(robot_folder: Path, tmp_path: Path) -> None:
    put_system0("walking", tmp_path)
    assert not list(tmp_path.iterdir())
    assert isinstance(load_system0(robot_folder), WalkingPolicy)
    code = (
        "import sys; from pathlib import Path; from psi0.params import Camera, Control; "
        "from psi0.sim.world import make_world; "
        "make_world('pick_can', Control(), Camera(), robot_folder=Path(sys.argv[1]), render=False); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(robot_folder)], check=True)


# The world


def run(world: World, seed: int) -> Outcome:
    """Stand until the episode is over."""
    world.reset(seed)
    outcome = None
    while outcome is None:
        outcome = world.step(standing_command(world.task.start_arms))
    return outcome


def test_an_episode_runs_with_amo_and_is_judged(amo_robot: Path, robot_folder: Path) -> None:
    size = Camera(width=64, height=48)
    world = make_world("pick_can", Control(), size, robot_folder=amo_robot, render=False)
    world.reset(600000)
    assert world.body.lower_target() == pytest.approx(STANCE)
    assert world.body.lower_position()[[3, 9]] == pytest.approx([0.3, 0.3], abs=0.05), "knees of its stance"
    outcome = run(world, 600000)
    assert outcome.tag in ("fell", "not_reached") and not outcome.success
    first = world.qpos_sha256()
    run(world, 600000)
    assert world.qpos_sha256() == first
    walking = make_world("pick_can", Control(), size, robot_folder=robot_folder, render=False)
    run(walking, 600000)
    assert walking.qpos_sha256() != first

    def gains(joint: str) -> tuple[float, float]:
        actuator = world.model.actuator(joint).id
        return world.model.actuator_gainprm[actuator, 0], -world.model.actuator_biasprm[actuator, 2]

    assert gains("left_knee_joint") == (300.0, 4.0) and gains("right_ankle_roll_joint") == (20.0, 1.0)
    assert gains("left_hip_yaw_joint") == (150.0, 2.0) and gains("waist_pitch_joint") == (400.0, 15.0)
    arm = walking.model.actuator("left_elbow_joint").id
    assert np.array_equal(world.model.actuator_gainprm[arm], walking.model.actuator_gainprm[arm])
