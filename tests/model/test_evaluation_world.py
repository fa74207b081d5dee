"""Rollouts in the simulated world: latency as executed, exact repetition, controls, and the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.evaluate.baselines import Frozen, Replay, Zero, read_actions
from psi0.evaluate.controls import Eyes, SwappedEyes
from psi0.evaluate.resolve import resolve
from psi0.evaluate.rollout import Pace, run_episode
from psi0.evaluate.schemas import Evaluation, read_record
from psi0.evaluate.verbs import evaluate_named
from psi0.evaluate.video import Film
from psi0.params import Camera, Control, Params, parse_params
from psi0.policy import Observation
from psi0.robot.layout import ACTION_NAMES, ActionPart
from psi0.sim.world import InvalidSeed, World, make_world

JOINT = ACTION_NAMES.index("left_wrist_roll_joint")
STEPS = 24
SEED = 700_003


@pytest.fixture(scope="module")
def world(robot_folder: Path) -> Iterator[World]:
    made = make_world("pick_can", Control(), Camera(width=64, height=48), robot_folder=robot_folder)
    made.max_steps = STEPS
    yield made
    made.close()


class Numbered:
    """Stands; row r of its n-th chunk asks the left wrist for (10 n + r) / 1000 rad."""

    privileged = False

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def reset(self, seed: int) -> None:
        self.seen = []

    def act(self, observation: Observation) -> NDArray[np.float32]:
        self.seen.append(observation)
        chunk = np.zeros((10, 36), np.float32)
        chunk[:, : len(observation.state)] = observation.state
        chunk[:, JOINT] = (10 * len(self.seen) + np.arange(10)) / 1000
        return chunk


def test_chunks_reach_the_robot_late_and_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[int] = []
    step = world.step

    def recording_step(action: NDArray[np.float32]) -> object:
        executed.append(round(float(action[JOINT]) * 1000))
        return step(action)

    monkeypatch.setattr(world, "step", recording_step)
    policy = Numbered()
    row = run_episode(world, policy, Eyes(), SEED, Pace(execute=8, delay=2)).row
    standing = [0, 0]
    assert executed == [*standing, *range(12, 20), *range(22, 30), *range(32, 38)]
    assert row.steps == STEPS and [o.step for o in policy.seen] == [0, 8, 16]
    assert policy.seen[0].previous_chunk is None
    for observation in policy.seen[1:]:
        assert observation.previous_chunk is not None
        prefix = np.round(observation.previous_chunk[:2, JOINT] * 1000).astype(int).tolist()
        assert prefix == executed[observation.step : observation.step + 2]
    assert all(o.head_camera.shape == (48, 64, 3) and o.state.shape == (32,) for o in policy.seen)


def test_an_episode_repeats_exactly_whatever_ran_before_and_filmed_or_not(world: World) -> None:
    policy, eyes = Numbered(), Eyes()
    first = run_episode(world, policy, eyes, SEED, Pace(4, 1))
    other = run_episode(world, policy, eyes, SEED + 1, Pace(4, 1))
    film = Film(eyes, 10)
    filmed = run_episode(world, policy, eyes, SEED, Pace(4, 1), film)
    assert filmed == first and other.row.qpos_sha256 != first.row.qpos_sha256
    assert film.encode()[4:8] == b"ftyp"


def test_swapped_eyes_see_another_scene_while_the_body_is_its_own(world: World, robot_folder: Path) -> None:
    other = make_world("pick_can", Control(), Camera(width=64, height=48), robot_folder=robot_folder)
    policy = Numbered()
    own = run_episode(world, policy, Eyes(), SEED, Pace(8, 0)).row
    own_image = policy.seen[0].head_camera
    swapped = run_episode(world, policy, SwappedEyes(other, InvalidSeed), SEED, Pace(8, 0)).row
    assert swapped.qpos_sha256 == own.qpos_sha256 and swapped.pixels_sha256 != own.pixels_sha256
    assert (policy.seen[0].head_camera != own_image).any()
    assert other.steps == STEPS
    other.close()


def test_swapped_eyes_see_an_object_that_is_elsewhere(world: World, robot_folder: Path) -> None:
    other = make_world("pick_can", Control(), Camera(width=64, height=48), robot_folder=robot_folder)
    eyes = SwappedEyes(other, InvalidSeed, 0.25)
    for seed in range(SEED, SEED + 3):
        world.reset(seed)
        eyes.reset(seed, world)
        assert np.linalg.norm(world.object_place() - other.object_place()) >= 0.25
    other.close()


def test_an_invalid_action_fails_the_episode_and_names_the_joint(world: World) -> None:
    class Wild(Numbered):
        def act(self, observation: Observation) -> NDArray[np.float32]:
            chunk = super().act(observation)
            chunk[3, JOINT] = 9.0
            return chunk

    episode = run_episode(world, Wild(), Eyes(), SEED, Pace(8, 0))
    assert (episode.row.tag, episode.row.success, episode.row.steps) == ("invalid_action", False, 3)
    assert "left_wrist_roll" in episode.detail


@pytest.mark.parametrize("policy", [Zero(16), Frozen(16), Replay(np.zeros((5, 36), np.float32), 16)])
def test_policies_that_learned_nothing_do_not_succeed(world: World, policy: Zero) -> None:
    assert not run_episode(world, policy, Eyes(), SEED, Pace(8, 0)).row.success


def test_a_recording_ends_standing_still() -> None:
    actions = np.ones((6, 36), np.float32)
    seen = Observation(np.zeros((2, 2, 3), np.uint8), np.zeros(32, np.float32), "", 4, None, 0)
    chunk = Replay(actions, 4).act(seen)
    assert chunk[:, ActionPart.VELOCITY].tolist() == [[1] * 3] * 2 + [[0] * 3] * 2
    assert (chunk[:, ActionPart.UPPER_BODY] == 1).all()


def test_any_policy_runs_on_any_evaluation_seeds(here: Path) -> None:
    params = parse_params({"camera": {"width": 64, "height": 48}}, "test")
    output = here / "frozen.json"
    result = evaluate_named(
        params, "pick_can", "frozen", seeds="700000:700001", workers=2, video=here / "film", output=output
    )
    assert read_record(Evaluation, output) == result
    assert [row.seed for row in result.rows] == [700_000] and result.summary.successes == 0
    assert set(result.machine) == {"renderer", "processor"} and all(result.machine.values())
    assert result.seeds == "range" and result.repeated_seeds == [700_000] and not result.differing_seeds
    assert [file.name for file in (here / "film").iterdir()] == ["policy_700000.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "pick_cn"}, "did you mean 'pick_can'"),
        ({"control": "deaf"}, "controls: none, blind, swapped_image"),
        ({"control": "wrong_instruction"}, "scene.objects to 2"),
        ({"level": "L7"}, "levels: L0, L1, L2"),
        ({"seeds": "0:20"}, "for training"),
        ({"policy": "no/such/folder"}, "no/such/folder is no policy"),
        ({"policy": "models:/psi0-pick_can@champion"}, "registry is not at hand"),
        ({"policy": "replay:nothing.json"}, "nothing.json does not exist"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_a_remedy(
    here: Path, arguments: dict[str, object], message: str
) -> None:
    asked: dict[str, object] = {"task": "pick_can", "policy": "zero", "seeds": "700000:700001"} | arguments
    with pytest.raises(Psi0Error, match=message):
        evaluate_named(Params(), **asked)  # type: ignore[arg-type]


def test_recordings_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "actions.json"
    for content, message in (
        ("[[1, 2]]", r"shape \(1, 2\)"),
        ("{}", "shape|not a JSON list"),
        ("[", "not a JSON list"),
    ):
        file.write_text(content)
        with pytest.raises(Psi0Error, match=message):
            read_actions(str(file))
    file.write_text(json.dumps(np.zeros((3, 36)).tolist()))
    assert read_actions(str(file)).shape == (3, 36)
    assert resolve(f"replay:{file}", 16).sha256 == resolve(f"replay:{file}", 8).sha256
