"""Scenes with two of a kind: which is meant is said in words, by colour."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from psi0.sim.tasks.poses import Poses

Color = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Ranges of hue, saturation and value, each 0 to 1."""
NAMED_COLORS: dict[str, Color] = {
    "red": ((-0.02, 0.02), (0.8, 1.0), (0.65, 0.9)),
    "green": ((0.33, 0.40), (0.8, 1.0), (0.4, 0.7)),
    "blue": ((0.58, 0.65), (0.8, 1.0), (0.55, 0.9)),
}
"""What colours are called. Two things of a kind never share one."""
_TRIES = 10_000


def draw_names(random: np.random.Generator, choices: dict[str, str]) -> dict[str, str]:
    """A colour for everything that can be meant and for the other one of its kind.

    Args:
        choices: geoms that are meant, each with the other one of its kind.
    """
    names: dict[str, str] = {}
    for meant, other in choices.items():
        names[meant], names[other] = map(str, random.choice(list(NAMED_COLORS), size=2, replace=False))
    return names


def spots_apart(poses: Poses, draw: Callable[[Poses], NDArray[np.float64]], apart: float) -> list[NDArray[np.float64]]:
    """Two spots `(2,)` drawn alike whose y lie at least `apart` from each other [m].

    Raises:
        ValueError: the ranges leave no room for two.
    """
    for _ in range(_TRIES):
        first, second = draw(poses), draw(poses)
        if abs(first[1] - second[1]) >= apart:
            return [first, second]
    raise ValueError(f"no two spots {apart:g} m apart in {_TRIES} tries")
