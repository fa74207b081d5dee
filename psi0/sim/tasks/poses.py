"""Where things start: ranges that the level of an episode may widen."""

from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Poses:
    """Draws poses. `within` is for where the object and the robot start: a level may widen that about its middle."""

    def __init__(self, random: np.random.Generator, widening: float = 1.0) -> None:
        self._random, self._widening = random, widening

    def within(self, low: float, high: float) -> float:
        """A number from a range, `widening` times as wide."""
        more = (self._widening - 1.0) * (high - low) / 2
        return float(self._random.uniform(low - more, high + more))

    def uniform(self, low: float, high: float) -> float:
        """A number from a range as it is."""
        return float(self._random.uniform(low, high))

    def side(self) -> float:
        """-1 or 1."""
        return float(self._random.choice([-1.0, 1.0]))
