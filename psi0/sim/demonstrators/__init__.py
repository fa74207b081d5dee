"""Demonstrators: policies that read the simulator's state to do a task well. The gate refuses them.

They act through the same 36 numbers at the same rate as any policy. They are (nearly) Markov: points move at fixed
speeds from where they are commanded, and phases change on what has been reached, so that the next action can be
told from what is seen. Each answers one action at a time: run them without inference delay, asked at every step.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from psi0.errors import Psi0Error
from psi0.policy import Policy
from psi0.sim.demonstrators.carry import CarryDemonstrator
from psi0.sim.demonstrators.open import OpenDemonstrator
from psi0.sim.demonstrators.pick import PickDemonstrator
from psi0.sim.demonstrators.push import PushDemonstrator
from psi0.sim.world import World


class Demonstrator(Policy, Protocol):
    """A policy that can be made to begin with a mistake."""

    def misjudge(self, random: np.random.Generator) -> None:
        """Begin with a mistake, where the task's demonstrator knows how to go on after one."""

    @property
    def misjudging(self) -> bool:
        """Whether the mistake is still being made."""


_DEMONSTRATORS: dict[str, Callable[[World], Demonstrator]] = {
    "pick_can": PickDemonstrator,
    "carry_place_can": CarryDemonstrator,
    "push_cart": PushDemonstrator,
    "open_drawer": OpenDemonstrator,
}


def make_demonstrator(world: World) -> Demonstrator:
    """The demonstrator of a world's task, bound to that world. Raises `Psi0Error` when the task has none."""
    if world.task.name not in _DEMONSTRATORS:
        raise Psi0Error(f"task {world.task.name!r} has no demonstrator; tasks with one: {', '.join(_DEMONSTRATORS)}")
    return _DEMONSTRATORS[world.task.name](world)
