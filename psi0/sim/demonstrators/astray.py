"""Walking to a wrong place first: how a robot that stands astray is seen, and how it goes on from there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ASTRAY_SHARE = 0.5
"""How many of a demonstrator's mistakes are to walk to a wrong place, where it makes that one."""
_FORWARD, _SIDEWAYS, _TURN = (-0.15, 0.08), (-0.25, 0.25), (-0.4, 0.4)


@dataclass(frozen=True)
class Astray:
    """How far from where it should stand a robot goes first.

    Attributes:
        offset: along and across the heading it should have `(2,)` [m].
        turn: from that heading [rad].
    """

    offset: NDArray[np.float64]
    turn: float


def draw_astray(random: np.random.Generator) -> Astray:
    """A wrong place: near the right one, where a policy that judged wrongly would come to stand."""
    offset = np.array([random.uniform(*_FORWARD), random.uniform(*_SIDEWAYS)])
    return Astray(offset, random.uniform(*_TURN))
