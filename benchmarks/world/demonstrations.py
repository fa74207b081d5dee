"""Demonstrators at work, without pictures and without disturbance: what several tables are counted from."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from psi0 import paths
from psi0.params import Params
from psi0.seeds import EVALUATION_SEEDS_START
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.tasks import make_task
from psi0.sim.variation import Level
from psi0.sim.world import InvalidSeed, Outcome, World


def blind_world(params: Params, task: str, level: Level) -> World:
    """The world of a task without pictures."""
    return World(make_task(task), params.control, params.camera, level, paths.ROBOT, render=False)


def demonstrate(
    world: World, seed: int, look: Callable[[World], None] = lambda world: None
) -> tuple[list[NDArray[np.float32]], Outcome]:
    """Every action `(36,)` of the demonstrator on a seed, and how it ended; `look` is called before each of them.

    Raises:
        InvalidSeed: the scene of this seed does not come to rest.
    """
    demonstrator = make_demonstrator(world)
    world.reset(seed)
    demonstrator.reset(seed)
    rows, outcome = [], None
    while outcome is None:
        look(world)
        rows.append(demonstrator.act(world.observe())[0])
        outcome = world.step(rows[-1])
    return rows, outcome


def demonstrations(
    world: World, episodes: int, look: Callable[[World], None] = lambda world: None
) -> Iterator[list[NDArray[np.float32]]]:
    """The actions of every demonstration on the first evaluation seeds, invalid ones left out."""
    for seed in range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + episodes):
        try:
            yield demonstrate(world, seed, look)[0]
        except InvalidSeed:
            continue
