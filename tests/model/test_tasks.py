"""The tasks beside pick_can: their demonstrators do them, their predicates mean what they say, broken ones say so."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from psi0.errors import Psi0Error
from psi0.params import TASKS as KNOWN_TASKS
from psi0.params import Camera, Control, Params
from psi0.policy import Policy
from psi0.robot.layout import ACTION_NAMES
from psi0.robot.physics import mujoco
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.demonstrators.style import draw_style
from psi0.sim.furniture import on_floor
from psi0.sim.scene import quaternion_z
from psi0.sim.script import make_script
from psi0.sim.tasks import TASKS
from psi0.sim.tasks.base import Progress, View
from psi0.sim.tasks.carry_place_can import HEIGHTS, MARK_RADIUS
from psi0.sim.tasks.pick_can import PickCan
from psi0.sim.tasks.poses import Poses
from psi0.sim.tasks.push_cart import NEAR
from psi0.sim.world import World

CAMERA = Camera(width=64, height=48)
NEW_TASKS = ("carry_place_can", "push_cart", "open_drawer")
SECOND = 10
"""Control steps."""


def act(world: World, policy: Policy) -> np.ndarray:
    return policy.act(world.observe())[0]


def commands(world: World, policy: Policy, seed: int) -> np.ndarray:
    """Every action of an episode `(steps, 36)`."""
    world.reset(seed)
    policy.reset(seed)
    rows, outcome = [], None
    while outcome is None:
        rows.append(act(world, policy))
        outcome = world.step(rows[-1])
    return np.array(rows)


@pytest.mark.parametrize("task", ["pick_can", "carry_place_can", "push_cart"])
def test_a_demonstrator_goes_on_after_a_mistake(worlds: Callable[[str], World], task: str) -> None:
    world = worlds(task)
    demonstrator = make_demonstrator(world)
    noticed, succeeded = 0, 0
    for seed in range(600000, 600006):
        world.reset(seed)
        demonstrator.reset(seed)
        demonstrator.misjudge(np.random.default_rng(seed))
        assert demonstrator.misjudging
        outcome = None
        while outcome is None:
            outcome = world.step(act(world, demonstrator))
        noticed += not demonstrator.misjudging
        succeeded += outcome.success
    assert noticed >= 4 and succeeded >= 3


def test_every_task_has_parameters_a_demonstrator_and_a_script(worlds: Callable[[str], World]) -> None:
    assert set(TASKS) == set(KNOWN_TASKS) == set(Params().gate.thresholds)
    for name in TASKS:
        assert make_demonstrator(worlds(name)).privileged and not make_script(worlds(name)).privileged


@pytest.mark.parametrize("task", NEW_TASKS)
def test_the_demonstrator_does_the_task(worlds: Callable[[str], World], task: str) -> None:
    world = worlds(task)
    rows = commands(world, make_demonstrator(world), 600004)
    assert world.outcome is not None and world.outcome.success, world.outcome
    assert len(world.task.key_point_names) == len(world.key_points())
    moved = np.ptp(rows, axis=0) > 0.01
    expected = {
        "carry_place_can": [
            "torso_roll",
            "torso_pitch",
            "torso_yaw",
            "height",
            "velocity_x",
            "velocity_y",
            "velocity_yaw",
            "right_hand_index_0_joint",
        ],
        "push_cart": ["velocity_x", "velocity_yaw", "left_hand_index_0_joint", "right_hand_index_0_joint"],
        "open_drawer": ["velocity_x", "right_hand_index_0_joint"],
    }[task]
    assert all(moved[ACTION_NAMES.index(name)] for name in expected)
    assert rows[:, ACTION_NAMES.index("velocity_x")].min() < -0.1 or task == "push_cart"


def test_styles_differ_by_seed_and_not_by_call() -> None:
    assert draw_style(7) == draw_style(7) != draw_style(8)
    paces = [draw_style(seed).pace for seed in range(100)]
    assert min(paces) < 0.9 and max(paces) > 1.1


@pytest.mark.parametrize("task", NEW_TASKS)
def test_some_instructions_are_kept_for_evaluation(worlds: Callable[[str], World], task: str) -> None:
    world = worlds(task)

    def said(first_seed: int) -> set[str]:
        found = set()
        for seed in range(first_seed, first_seed + 24):
            world.reset(seed)
            found.add(world.instruction)
        return found

    assert said(0) == set(world.task.instructions)
    assert said(700_000) == set(world.task.instructions + world.task.evaluation_instructions)


def test_the_height_of_the_table_varies_and_everything_stands_on_it(worlds: Callable[[str], World]) -> None:
    world, heights = worlds("carry_place_can"), []
    for seed in range(600000, 600012):
        world.reset(seed)
        height = world.view.position("table")[2]
        assert world.view.position("can")[2] == pytest.approx(height + 0.06, abs=0.003)
        assert world.view.position("mark")[2] == pytest.approx(height)
        assert world.task.key_points(world.view)[2, 2] == pytest.approx(height)
        heights.append(height)
    assert HEIGHTS[0] <= min(heights) < 0.72 and 0.76 < max(heights) <= HEIGHTS[1]


def looked_at(world: World, progress: Progress, steps: int = 1) -> Progress:
    mujoco.mj_forward(world.model, world.data)
    for _ in range(steps):
        world.task.update(world.view, progress, 0.1)
    return progress


@pytest.mark.parametrize(("off", "back", "ended"), [(0.0, -0.4, "success"), (0.0, -0.2, None), (0.02, -0.4, None)])
def test_a_can_is_placed_on_the_mark_by_a_robot_that_stepped_back(
    worlds: Callable[[str], World], off: float, back: float, ended: str | None
) -> None:
    world = worlds("carry_place_can")
    world.reset(600000)
    spot = world.view.position("mark") + np.array([MARK_RADIUS * (off > 0) + off, 0.0, 0.06])
    world.view.place("can", spot, quaternion_z(0.0))
    world.data.qpos[0] = back
    assert looked_at(world, Progress(touched=True), SECOND).ended is None, "it was never lifted"
    assert looked_at(world, Progress(touched=True, lifted=True), SECOND - 1).ended is None
    progress = looked_at(world, Progress(touched=True, lifted=True), SECOND)
    assert progress.ended == ended
    assert world.task.tag_at_timeout(progress) == ("missed_place" if off else "timeout")


def test_a_can_that_lies_on_the_mark_is_misplaced(worlds: Callable[[str], World]) -> None:
    world = worlds("carry_place_can")
    world.reset(600000)
    lying = world.view.position("mark") + np.array([0.0, 0.0, 0.034])
    world.view.place("can", lying, np.array([0.5**0.5, 0.5**0.5, 0.0, 0.0]))
    progress = looked_at(world, Progress(touched=True, lifted=True), SECOND)
    assert progress.ended is None and world.task.tag_at_timeout(progress) == "missed_place"


def test_tags_say_how_far_it_came(worlds: Callable[[str], World]) -> None:
    for name in NEW_TASKS:
        task = worlds(name).task
        assert task.tag_at_timeout(Progress()) == "not_reached"
        assert task.tag_at_timeout(Progress(touched=True)) == "not_grasped"
        assert task.tag_at_timeout(Progress(touched=True, lifted=True)) == "timeout"


def parked(world: World, across: float, turn: float) -> Progress:
    yaw = world.view.heading("mark")
    x, y, _ = world.view.position("mark")
    world.view.place("cart", on_floor((x, y), yaw, np.array([[0.0, across, 0.0]]))[0], quaternion_z(yaw + turn))
    return looked_at(world, Progress(touched=True, lifted=True), SECOND)


def test_a_cart_is_parked_within_its_bounds(worlds: Callable[[str], World]) -> None:
    world = worlds("push_cart")
    world.reset(600000)
    assert parked(world, 0.14, 0.24).ended == "success"
    for across, turn in ((0.16, 0.0), (0.0, 0.26), (0.0, -0.26)):
        progress = parked(world, across, turn)
        assert progress.ended is None and world.task.tag_at_timeout(progress) == "missed_place"
    assert looked_at(world, Progress(touched=True), SECOND).ended is None, "nobody pushed it"


def test_straight_ahead_of_the_cart_is_never_in_the_bay(worlds: Callable[[str], World]) -> None:
    world = worlds("push_cart")
    for seed in range(600000, 600030):
        world.task.place(world.view, Poses(np.random.default_rng(seed)))
        mujoco.mj_forward(world.model, world.data)
        cart, yaw = world.view.position("cart"), world.view.heading("cart")
        way = on_floor((cart[0], cart[1]), yaw, np.stack([np.linspace(0, 2, 100), np.zeros(100), np.zeros(100)], 1))
        assert np.linalg.norm((way - world.view.position("mark"))[:, :2], axis=1).min() > NEAR


@pytest.mark.parametrize(
    ("opened", "touched", "ended"), [(0.16, True, "success"), (0.14, True, None), (0.16, False, None)]
)
def test_a_drawer_is_open_from_fifteen_centimetres_on(
    worlds: Callable[[str], World], opened: float, touched: bool, ended: str | None
) -> None:
    world = worlds("open_drawer")
    world.reset(600000)
    world.data.qpos[world.model.joint("drawer").qposadr[0]] = opened
    assert looked_at(world, Progress(touched=touched), SECOND).ended == ended


@pytest.mark.parametrize("task", NEW_TASKS[:2])
def test_scripts_ignore_where_things_are(worlds: Callable[[str], World], task: str) -> None:
    world, rows = worlds(task), []
    script = make_script(world)
    for seed in (600000, 600000):
        world.reset(seed)
        if rows:
            name = world.task.object_name
            world.view.place(name, world.view.position(name) + np.array([0.05, 0.06, 0.0]), quaternion_z(0.3))
            world.view.place("mark", world.view.position("mark") + np.array([0.03, -0.1, 0.0]), quaternion_z(0.1))
        script.reset(seed)
        rows.append([])
        for _ in range(15):
            rows[-1].append(act(world, script))
            world.step(rows[-1][-1])
    assert np.array_equal(rows[0], rows[1])


class Broken(PickCan):
    name = "broken"


class UnknownObject(Broken):
    object_name = "cup"


class UnknownBody(Broken):
    def key_points(self, view: View) -> np.ndarray:
        return view.position("saucer")[None]


class WrongShape(Broken):
    key_point_names = ("can",)


class NoPredicate(Broken):
    def update(self, view: View, progress: Progress, seconds: float) -> None:
        raise ZeroDivisionError("float division by zero")


class UnknownColor(Broken):
    colors: ClassVar = {"plate": ((0, 1), (0, 1), (0, 1))}


class TwoOfAKind(Broken):
    def build(self, spec: mujoco.MjSpec) -> None:
        super().build(spec)
        super().build(spec)


class Silent(Broken):
    instructions: ClassVar[tuple[str, ...]] = ()


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (UnknownObject, "object_name.*'cup'"),
        (UnknownBody, "key_points.*saucer"),
        (WrongShape, r"key_points.*\(3, 3\), expected \(1, 3\)"),
        (NoPredicate, "update: cannot be evaluated.*division by zero"),
        (UnknownColor, "colors.*'plate'"),
        (TwoOfAKind, "build: the scene does not compile: .*repeated name"),
        (Silent, "instructions"),
    ],
)
def test_a_broken_task_is_refused_when_its_world_is_made(task: type[Broken], found: str, robot_folder: Path) -> None:
    with pytest.raises(Psi0Error, match=f"(?s)task 'broken'.*{found}.*mend .*test_tasks"):
        World(task(), Control(), CAMERA, "L0", robot_folder, render=False)


def test_a_task_without_a_demonstrator_or_a_script_says_so(robot_folder: Path) -> None:
    world = World(Broken(), Control(), CAMERA, "L0", robot_folder, render=False)
    for make in (make_demonstrator, make_script):
        with pytest.raises(Psi0Error, match="task 'broken' has no"):
            make(world)
