"""Nearest demonstration: which demonstrated moment looks most like the present one, and what was done from there.

Pictures are made small and standardised pixel by pixel (mean and deviation over the moments compared); states are
normalised as for every policy. The squared distance is the mean over pixel values plus, weighted, that over the state.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psi0.baselines.config import CONFIG_FILE, TENSORS_FILE
from psi0.errors import Psi0Error
from psi0.model.image import resize
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE, ActionPart

SMALLEST_SPREAD = 4.0
"""Smallest standard deviation a pixel is divided by [grey levels]: below lies the noise of video compression."""


def small_pictures(images: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """Images `(n, height, width, 3)` made `rows` pixels high, `(n, rows, columns, 3)`; empty ones for 0 rows."""
    height, width = images.shape[1:3]
    if rows == 0:
        return np.zeros((len(images), 0, 0, 3), np.uint8)
    return resize(images, rows, max(1, round(width * rows / height)))


@dataclass(frozen=True)
class Demonstrations:
    """Moments to compare with, and all that was done.

    Attributes:
        pictures: uint8 `(moments, rows, columns, 3)`.
        states: float32 `(moments, 32)`, normalised.
        rows: int64 `(moments,)`, where in `actions` each moment's begins.
        last_rows: int64 `(moments,)`, the last row of its demonstration.
        actions: float32 `(rows, 36)`, physical units.
    """

    pictures: NDArray[np.uint8]
    states: NDArray[np.float32]
    rows: NDArray[np.int64]
    last_rows: NDArray[np.int64]
    actions: NDArray[np.float32]

    def to_tensors(self) -> dict[str, Tensor]:
        """What a baseline's folder stores."""
        return {name: torch.from_numpy(np.array(value)) for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Demonstrations":
        """What a baseline's folder stores. Raises `Psi0Error` when something is missing or does not fit."""
        if set(tensors) != set(cls.__dataclass_fields__):
            raise Psi0Error(f"{TENSORS_FILE} does not hold demonstrations as {CONFIG_FILE} says; rebuild the folder")
        found = cls(**{name: value.numpy() for name, value in tensors.items()})
        moments, steps = len(found.rows), len(found.actions)
        fits = (
            moments == len(found.pictures) == len(found.last_rows)
            and found.states.shape == (moments, STATE_SIZE)
            and found.actions.shape == (steps, ACTION_SIZE)
            and moments > 0
            and bool((found.rows >= 0).all() and (found.rows <= found.last_rows).all())
            and bool((found.last_rows < steps).all())
        )
        if not fits:
            raise Psi0Error(f"{TENSORS_FILE}: moments and actions do not fit each other; rebuild the folder")
        return found

    def actions_from(self, moment: int, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Actions `(n, 36)` this many rows after a moment; past the end the last one, standing still."""
        wanted = self.rows[moment] + offsets
        last = self.last_rows[moment]
        chosen = self.actions[np.minimum(wanted, last)].copy()
        chosen[wanted > last, ActionPart.VELOCITY] = 0.0
        return chosen


class Matcher:
    """Finds the nearest moment of some demonstrations."""

    def __init__(self, demonstrations: Demonstrations, state_weight: float) -> None:
        self._state_weight, self._states = state_weight, demonstrations.states
        pixels = demonstrations.pictures.reshape(len(demonstrations.pictures), -1).astype(np.float32)
        self._rows = demonstrations.pictures.shape[1]
        self._mean = pixels.mean(axis=0)
        self._spread = np.maximum(pixels.std(axis=0), SMALLEST_SPREAD)
        self._pixels = (pixels - self._mean) / self._spread

    def __call__(self, image: NDArray[np.uint8], state: NDArray[np.float32]) -> int:
        """The moment nearest to an image `(height, width, 3)` and a normalised state `(32,)`; the first of equals."""
        distance = self._state_weight * ((self._states - state) ** 2).mean(axis=1)
        if self._rows:
            seen = small_pictures(image[None], self._rows).reshape(-1).astype(np.float32)
            distance = distance + ((self._pixels - (seen - self._mean) / self._spread) ** 2).mean(axis=1)
        return int(np.argmin(distance))
