"""How a demonstrator does it this time: people are not machines, and data of one trajectory teaches one trajectory."""

from dataclasses import dataclass

import numpy as np

_STREAM = 4242


@dataclass(frozen=True)
class Style:
    """What differs between the episodes of one demonstrator.

    Attributes:
        pace: factor on walking and hand speeds.
        pause: factor on the moments of standing still.
        side: -1 to 1, from where within its range a hand comes, and how high it carries.
        lean: 0 to 1, how much the torso leans over while reaching.
        stance: -1 to 1 each, how far ahead and to the side of the usual place, and how much turned, it stands.
        posture: -1 to 1 each, how high it stands, how far it leans to the side, and how high it raises its hand.
    """

    pace: float = 1.0
    pause: float = 1.0
    side: float = 0.0
    lean: float = 0.5
    stance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    posture: tuple[float, float, float] = (0.0, 0.0, 0.0)


def draw_style(seed: int) -> Style:
    """The style of an episode; the same for the same seed."""
    random = np.random.default_rng([seed, _STREAM])
    pace, pause = random.uniform(0.85, 1.15), random.uniform(0.7, 1.5)
    side, lean = random.uniform(-1, 1), random.uniform(0, 1)
    stance = (random.uniform(-1, 1), random.uniform(-1, 1), random.uniform(-1, 1))
    posture = (random.uniform(-1, 1), random.uniform(-1, 1), random.uniform(-1, 1))
    return Style(pace, pause, side, lean, stance, posture)
