"""Target yaw: a heading relative to the episode's start, which System-0 walks to and demonstrators name."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from psi0.params import Camera, Control
from psi0.robot.layout import ActionPart
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.world import World, make_world, standing_command

SEED = 3


@pytest.fixture(scope="module")
def world(robot_folder: Path) -> Iterator[World]:
    made = make_world("pick_can", Control(), Camera(width=64, height=48), "L0", robot_folder, render=False)
    yield made
    made.close()


def turned(world: World, seconds: float, velocity: tuple[float, float, float], target_yaw: float) -> float:
    """Where the robot is heading, from how it began, after one command for some time [rad]."""
    world.reset(SEED)
    command = standing_command()
    command[ActionPart.VELOCITY], command[ActionPart.TARGET_YAW] = velocity, target_yaw
    for _ in range(round(seconds * world.policy_hz)):
        assert world.step(command) is None
    return world.turned


@pytest.mark.parametrize("target_yaw", [-0.5, 0.0, 0.5])
def test_walking_ends_at_the_target_yaw_and_stays_there(world: World, target_yaw: float) -> None:
    found = [turned(world, seconds, (-0.2, 0.0, 0.0), target_yaw) for seconds in (12.0, 15.0)]
    assert found == pytest.approx([target_yaw, target_yaw], abs=0.1)


def test_standing_leaves_the_target_yaw_alone(world: World) -> None:
    assert abs(turned(world, 4.0, (0.0, 0.0, 0.0), 1.0)) < 0.08


def test_the_way_round_is_the_shorter_one(world: World) -> None:
    assert turned(world, 5.0, (-0.2, 0.0, 0.0), -3.0) < -0.2
    assert turned(world, 5.0, (-0.2, 0.0, 0.0), 3.0) > 0.2


def test_a_target_yaw_far_off_draws_slowly(world: World) -> None:
    assert abs(turned(world, 3.0, (-0.2, 0.0, 0.0), 1.5)) < 0.35


def test_velocity_yaw_turns_besides(world: World) -> None:
    assert turned(world, 3.0, (-0.2, 0.0, 0.6), 0.5) > turned(world, 3.0, (-0.2, 0.0, 0.0), 0.5) + 0.2


def test_a_walk_begins_without_a_lurch_aside(world: World) -> None:
    world.reset(SEED)
    command = standing_command()
    for velocity, steps in ((0.0, 10), (-0.2, 30), (0.0, 10)):
        before = world.data.qpos[:2].copy()
        command[ActionPart.VELOCITY] = (velocity, 0.0, 0.0)
        for _ in range(steps):
            assert world.step(command) is None
        if velocity:
            moved, yaw = world.data.qpos[:2] - before, world.start.yaw
            assert abs(-np.sin(yaw) * moved[0] + np.cos(yaw) * moved[1]) < 0.06


def test_the_demonstrator_moves_the_target_yaw_along_and_comes_to_it(world: World) -> None:
    demonstrator = make_demonstrator(world)
    world.reset(SEED)
    demonstrator.reset(SEED)
    told, rates, outcome = [0.0], [], None
    while outcome is None:
        action = demonstrator.act(world.observe())[0]
        told.append(float(action[ActionPart.TARGET_YAW]))
        rates.append(float(action[ActionPart.VELOCITY][2]))
        outcome = world.step(action)
    facing_the_table = -world.start.yaw
    assert outcome.success and abs(facing_the_table) > 0.05
    walked = np.flatnonzero(np.diff(told))
    assert len(walked) > 5
    assert np.diff(told)[walked] == pytest.approx(np.array(rates)[walked] / world.policy_hz, abs=1e-5)
    assert [told[-1], world.turned] == pytest.approx([facing_the_table] * 2, abs=0.15)
