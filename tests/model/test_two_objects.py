"""Scenes with two of a kind: the instruction names one, and taking the other is a failure of its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.evaluate.controls import UnavailableControlError, make_eyes
from psi0.evaluate.resolve import resolve
from psi0.evaluate.rollout import Episode, Pace, run_episode
from psi0.params import Camera, Control, Params, parse_params
from psi0.policy import Observation
from psi0.sim.demonstrators.carry import CarryDemonstrator
from psi0.sim.demonstrators.pick import PickDemonstrator
from psi0.sim.tasks import make_task
from psi0.sim.tasks.carry_place_can import CANS_APART as CARRIED_CANS_APART
from psi0.sim.tasks.carry_place_can import MARKS_APART
from psi0.sim.tasks.check import compile_task
from psi0.sim.tasks.choice import NAMED_COLORS, spots_apart
from psi0.sim.tasks.pick_can import CANS_APART, PickCan
from psi0.sim.tasks.poses import Poses
from psi0.sim.variation import LEVELS
from psi0.sim.world import InvalidSeed, World, make_world

CAMERA = Camera(width=72, height=40)
CHOOSING = ("pick_can", "carry_place_can")
SEED = 700_001


@pytest.fixture(scope="module")
def worlds(robot_folder: Path) -> Iterator[dict[str, World]]:
    made = {task: make_world(task, Control(), CAMERA, "L0", robot_folder, objects=2) for task in CHOOSING}
    yield made
    for world in made.values():
        world.close()


class Listening(PickDemonstrator):
    """Takes the can whose colour it hears."""

    heard = ""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        self.heard = observation.instruction
        return super().act(observation)

    def _object(self) -> NDArray[np.float64]:
        colors = self._world.describe()["colors"]
        return self._world.view.position(next(can for can in ("can", "other_can") if colors[can] in self.heard))

    def _offset_in_hand(self) -> NDArray[np.float64]:
        return np.zeros(3)


class ListeningCarrier(Listening, CarryDemonstrator):
    """The same, over tables of any height."""


LISTENING = {"pick_can": Listening, "carry_place_can": ListeningCarrier}


def play(world: World, control: str) -> Episode:
    eyes = make_eyes(control, 40, 72, lambda: world, InvalidSeed)
    return run_episode(world, LISTENING[world.task.name](world), eyes, SEED, Pace(1, 0))


@pytest.mark.parametrize("task", CHOOSING)
def test_the_instruction_names_the_color_that_the_object_has(worlds: dict[str, World], task: str) -> None:
    world, said = worlds[task], set()
    for seed in range(600_000, 600_012):
        world.reset(seed)
        colors = world.describe()["colors"]
        for meant, other in world.task.choices.items():
            assert colors[meant] != colors[other] and {colors[meant], colors[other]} <= set(NAMED_COLORS)
            assert colors[meant] in world.instruction and colors[other] in world.other_instruction
            strongest = ("red", "green", "blue")[int(np.argmax(world.model.geom(meant).rgba[:3]))]
            assert strongest == colors[meant]
        assert "{" not in world.instruction and world.instruction != world.other_instruction
        said.add(world.instruction)
    assert len(said) > 6


@pytest.mark.parametrize("task", CHOOSING)
def test_two_of_a_kind_stand_where_a_hand_fits_between(worlds: dict[str, World], task: str) -> None:
    world = worlds[task]
    apart = {"can": CANS_APART if task == "pick_can" else CARRIED_CANS_APART, "mark": MARKS_APART}
    sides = set()
    for seed in range(600_000, 600_012):
        world.reset(seed)
        for meant, other in world.task.choices.items():
            between = world.view.position(meant)[1] - world.view.position(other)[1]
            assert abs(between) >= apart[meant] - 0.005
            sides.add((meant, between > 0))
    assert len(sides) == 2 * len(world.task.choices), "the one that is meant stands on either side"


def test_some_ways_to_name_are_only_heard_in_evaluation(worlds: dict[str, World]) -> None:
    for world in worlds.values():
        task = world.task
        kept = set(task.templates(evaluating=True)) - set(task.templates(evaluating=False))
        assert kept == set(task.evaluation_naming_instructions) and kept


def test_who_listens_succeeds_and_takes_the_other_when_told_so(worlds: dict[str, World]) -> None:
    right, wrong = play(worlds["pick_can"], "none").row, play(worlds["pick_can"], "wrong_instruction").row
    assert right.success
    assert (wrong.success, wrong.tag) == (False, "wrong_object")


def test_lifting_the_other_can_ends_carrying_too(worlds: dict[str, World]) -> None:
    assert play(worlds["carry_place_can"], "wrong_instruction").row.tag == "wrong_object"


def test_one_object_leaves_nothing_to_name(robot_folder: Path) -> None:
    world = make_world("pick_can", Control(), CAMERA, "L0", robot_folder, render=False)
    world.reset(SEED)
    assert world.describe()["colors"] == {} and world.instruction == world.other_instruction
    with pytest.raises(UnavailableControlError, match=r"scene\.objects to 2"):
        make_eyes("wrong_instruction", 40, 72, lambda: world, InvalidSeed).reset(SEED, world)


def test_tasks_without_a_choice_show_one_whatever_is_asked_for() -> None:
    assert [make_task(name, 2).objects for name in ("pick_can", "carry_place_can", "push_cart", "open_drawer")] == [
        *(2, 2, 1, 1)
    ]
    params = parse_params({"scene": {"objects": 2}}, "test")
    assert [params.objects(name) for name in ("pick_can", "push_cart")] == [2, 1]
    assert "wrong_instruction" in params.control_ceilings("carry_place_can")
    assert "wrong_instruction" not in params.control_ceilings("push_cart")
    assert "wrong_instruction" not in Params().control_ceilings("pick_can")


def test_a_field_that_nothing_fills_is_found(robot_folder: Path) -> None:
    class Mistaken(PickCan):
        name = "mistaken"
        naming_instructions = ("Pick up the {cup} can.",)

    from psi0.robot.model import robot_spec
    from psi0.sim.scene import add_room

    spec = robot_spec(robot_folder)
    add_room(spec)
    with pytest.raises(Psi0Error, match=r"mistaken.*'cup'"):
        compile_task(Mistaken(2), spec)


def test_ranges_without_room_for_two_are_said() -> None:
    poses = Poses(np.random.default_rng(0))
    with pytest.raises(ValueError, match="no two spots"):
        spots_apart(poses, lambda p: np.array([0.0, p.within(-0.1, 0.1)]), 0.5)


def test_only_the_widest_level_widens_poses(robot_folder: Path) -> None:
    spread = {}
    for level in LEVELS:
        world = make_world("pick_can", Control(), CAMERA, level, robot_folder, render=False)
        places = []
        for seed in range(600_000, 600_060):
            try:
                world.reset(seed)
            except InvalidSeed:
                continue
            places.append(world.view.position("can")[:2])
        spread[level] = np.ptp(np.array(places), axis=0)
    np.testing.assert_allclose(spread["L0"], spread["L1"], atol=1e-3)
    assert (spread["L2"] > 1.15 * spread["L1"]).all()


@pytest.mark.parametrize("task", ["pick_can", "push_cart"])
def test_without_its_object_a_motion_is_an_attempt_and_standing_is_none(robot_folder: Path, task: str) -> None:
    world = make_world(task, Control(), CAMERA, "L0", robot_folder)
    eyes = make_eyes("object_removed", 40, 72, lambda: world, InvalidSeed)
    arms = {name: resolve(name, 8)(world) for name in ("script", "zero")}
    found = {name: run_episode(world, policy, eyes, SEED, Pace(1, 0)).row for name, policy in arms.items()}
    assert found["script"].tag == "attempted" and not found["script"].success
    assert found["zero"].tag == "not_reached"
    world.close()


def test_a_drawer_cannot_be_taken_away(robot_folder: Path) -> None:
    world = make_world("open_drawer", Control(), CAMERA, "L0", robot_folder, render=False)
    world.reset(SEED)
    with pytest.raises(UnavailableControlError, match="part of its cabinet"):
        make_eyes("object_removed", 40, 72, lambda: world, InvalidSeed).reset(SEED, world)
