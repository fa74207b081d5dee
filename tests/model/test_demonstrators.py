"""Demonstrators show what a policy can learn: arms at rest while walking, a torso at rest while reaching, retries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from psi0.robot.angles import wrapped
from psi0.robot.constants import SETTING_OFF
from psi0.robot.layout import ActionPart
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.demonstrators.motion import walking_velocity
from psi0.sim.scene import quaternion_z
from psi0.sim.tasks.base import HANDS
from psi0.sim.tasks.carry_place_can import CAN_HALF_HEIGHT, MARK_RADIUS
from psi0.sim.world import World

SEED, FAR = 600004, 600005
"""Episodes; in the second the robot has farther to walk."""
SECOND = 10
"""Control steps."""


def begin(world: World, seed: int = SEED) -> Any:
    demonstrator = make_demonstrator(world)
    world.reset(seed)
    demonstrator.reset(seed)
    return demonstrator


def step(world: World, demonstrator: Any) -> np.ndarray:
    action: np.ndarray = demonstrator.act(world.observe())[0]
    world.step(action)
    return action


def until(world: World, demonstrator: Any, phase: str) -> None:
    """Go on to the first step of a phase."""
    while demonstrator.phase != phase:
        assert world.outcome is None, f"ended in {demonstrator.phase}"
        step(world, demonstrator)


@pytest.mark.parametrize("task", ["pick_can", "carry_place_can", "push_cart"])
def test_the_arms_rest_while_it_walks(worlds: Callable[[str], World], task: str) -> None:
    world = worlds(task)
    demonstrator = begin(world, FAR)
    walked, rested, last = 0, 0, np.zeros(14)
    strides = 0
    while world.outcome is None:
        action = step(world, demonstrator)
        strides = strides + 1 if np.linalg.norm(action[ActionPart.VELOCITY]) > 0.1 else 0
        if strides > SECOND:
            walked += 1
            rested += bool(np.abs(action[ActionPart.ARMS] - last).max() < 1e-6)
        last = action[ActionPart.ARMS]
    assert walked >= SECOND // 2 and rested >= 0.8 * walked


def test_a_walk_is_never_so_slow_that_system0_stands() -> None:
    for ahead in (-0.3, -0.06, 0.0, 0.06, 0.3):
        for aside in (-0.3, -0.07, 0.0, 0.07, 0.3):
            for turn in (-0.13, 0.0, 0.13):
                velocity = walking_velocity(np.array([ahead, aside]), turn)
                speed = max(np.hypot(velocity[0], velocity[1]), abs(velocity[2]))
                assert speed > 1.4 * SETTING_OFF if any((ahead, aside, turn)) else speed == 0.0
                assert np.array_equal(np.sign(velocity), np.sign([ahead, aside, turn])), "towards where it is to go"


def test_the_torso_rests_while_a_carrying_robot_grasps_and_lets_go(worlds: Callable[[str], World]) -> None:
    world = worlds("carry_place_can")
    demonstrator = begin(world)
    for first, phases in (("reach", ("reach", "grasp", "grip")), ("down", ("down", "release", "retreat"))):
        until(world, demonstrator, first)
        torso = []
        while demonstrator.phase in phases:
            torso.append(step(world, demonstrator)[ActionPart.TORSO])
        assert len(torso) > SECOND and np.ptp(torso[:-1], axis=0).max() < 0.02


def test_the_hand_rises_above_the_can_before_a_carrying_robot_steps_back(worlds: Callable[[str], World]) -> None:
    world = worlds("carry_place_can")
    demonstrator = begin(world)
    until(world, demonstrator, "away")
    hand, can = world.data.body("right_wrist_yaw_link").xpos, world.view.position("can")
    assert hand[2] > can[2] + 0.1


def test_a_can_waits_just_above_the_mark_before_it_is_set_down(worlds: Callable[[str], World]) -> None:
    world = worlds("carry_place_can")
    until(world, begin(world), "down")
    off = world.view.position("can") - world.view.position("mark")
    assert np.linalg.norm(off[:2]) < 0.02
    assert 0.01 < off[2] - CAN_HALF_HEIGHT < 0.05


def test_a_cart_that_leaves_the_hands_is_taken_hold_of_again(worlds: Callable[[str], World]) -> None:
    world = worlds("push_cart")
    demonstrator = begin(world)
    until(world, demonstrator, "drive")
    cart, yaw = world.view.position("cart"), world.view.heading("cart")
    world.view.place("cart", cart + np.array([0.3 * np.cos(yaw), 0.3 * np.sin(yaw), 0.0]), quaternion_z(yaw))
    for _ in range(SECOND):
        step(world, demonstrator)
    assert demonstrator.phase == "walk"
    until(world, demonstrator, "drive")


@pytest.mark.parametrize("task", ["carry_place_can", "push_cart"])
def test_it_does_not_always_stand_in_the_same_place(worlds: Callable[[str], World], task: str) -> None:
    world = worlds(task)
    beside = []
    for seed in range(SEED, SEED + 8):
        demonstrator = begin(world, seed)
        until(world, demonstrator, "reach")
        off = world.data.qpos[:2] - world.view.position(world.task.object_name)[:2]
        yaw = world.view.heading("cart") if task == "push_cart" else 0.0
        beside.append(off @ np.array([-np.sin(yaw), np.cos(yaw)]))
    assert np.ptp(beside) > 0.06


def test_it_drives_off_with_the_cart_straight_before_it(worlds: Callable[[str], World]) -> None:
    world = worlds("push_cart")
    turned = []
    for seed in range(SEED, SEED + 6):
        demonstrator = begin(world, seed)
        until(world, demonstrator, "drive")
        turned.append(abs(wrapped(world.view.heading("cart") - world.heading)))
        assert all(world.view.touching("cart", (hand,)) for hand in HANDS)
    assert max(turned) < 0.12


@pytest.mark.parametrize(("across", "askew"), [(0.2, 0.0), (-0.2, 0.0), (0.0, 0.4), (0.0, -0.4), (0.15, -0.3)])
def test_a_cart_askew_in_the_bay_is_parked_anew_without_leaving_it(
    worlds: Callable[[str], World], across: float, askew: float
) -> None:
    world = worlds("push_cart")
    demonstrator = begin(world)
    until(world, demonstrator, "stop")
    cart, yaw = world.view.position("cart"), world.view.heading("cart") + askew
    mark = cart + across * np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    world.view.place("mark", np.array([*mark[:2], 0.0]), quaternion_z(yaw))
    farthest = 0.0
    while world.outcome is None:
        step(world, demonstrator)
        farthest = max(farthest, float(np.linalg.norm(world.view.position("cart") - cart)))
    assert world.outcome.success
    assert farthest < abs(across) + 0.15


def test_who_drives_with_one_hand_lets_go_and_takes_hold_again(worlds: Callable[[str], World]) -> None:
    world = worlds("push_cart")
    one_handed = 0
    for seed in range(12):
        demonstrator = begin(world)
        demonstrator.misjudge(np.random.default_rng(seed))
        while demonstrator.misjudging and world.outcome is None:
            step(world, demonstrator)
        hands = [world.view.touching("cart", (hand,)) for hand in HANDS]
        if demonstrator.phase != "drive" or all(hands):
            continue
        one_handed += 1
        until(world, demonstrator, "walk")
        until(world, demonstrator, "drive")
        assert all(world.view.touching("cart", (hand,)) for hand in HANDS)
    assert one_handed


def test_who_stands_beside_the_cart_steps_back_and_does_not_shove_it(worlds: Callable[[str], World]) -> None:
    world = worlds("push_cart")
    for side in (-0.3, 0.3):
        demonstrator = begin(world)
        until(world, demonstrator, "stand")
        yaw, stood = world.view.heading("cart"), world.data.qpos[:2].copy()
        cart = world.view.position("cart") + side * np.array([-np.sin(yaw), np.cos(yaw), 0.0])
        world.view.place("cart", cart, quaternion_z(yaw))
        back = []
        while demonstrator.phase != "reach":
            assert world.outcome is None, f"ended in {demonstrator.phase}"
            step(world, demonstrator)
            back.append((stood - world.data.qpos[:2]) @ np.array([np.cos(yaw), np.sin(yaw)]))
        assert max(back) > 0.08
        assert np.linalg.norm(world.view.position("cart") - cart) < 0.03


def test_a_can_set_down_beside_the_mark_is_taken_again(worlds: Callable[[str], World]) -> None:
    world = worlds("carry_place_can")
    beside, mended = 0, 0
    for seed in range(10, 20):
        demonstrator = begin(world, SEED + seed)
        demonstrator.misjudge(np.random.default_rng(seed))
        while demonstrator.misjudging and world.outcome is None:
            step(world, demonstrator)
        off = world.view.position("can") - world.view.position("mark")
        if demonstrator.phase != "retreat" or np.linalg.norm(off[:2]) < MARK_RADIUS:
            continue
        beside += 1
        while world.outcome is None:
            step(world, demonstrator)
        mended += world.outcome.success
    assert mended > beside / 2
