"""Random changes to a training sample: image shift with its labels, colour jitter, noise on the state.

All numbers of a global batch are drawn at once from (seed, step) and then dealt out, so that the rank count does not
change them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psi0.params import Training

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """What is done to each sample of a batch.

    Attributes:
        shifts: int64 `(batch, 2)`, how far the image moves right and down [pixels].
        colors: float32 `(batch, 3)`, factors on brightness, contrast and saturation.
        state: float32 `(batch, 32)`, added to the normalised state.
    """

    shifts: NDArray[np.int64]
    colors: NDArray[np.float32]
    state: NDArray[np.float32]

    @classmethod
    def draw(
        cls, source: np.random.Generator, batch: int, training: Training, state_noise: float, state_size: int
    ) -> "Augmentation":
        """Draw for a whole global batch."""
        reach = training.image_shift
        return cls(
            shifts=source.integers(-reach, reach + 1, (batch, 2)),
            colors=source.uniform(1 - training.color_jitter, 1 + training.color_jitter, (batch, 3)).astype(np.float32),
            state=(state_noise * source.standard_normal((batch, state_size))).astype(np.float32),
        )

    def part(self, which: slice | NDArray[np.int64]) -> "Augmentation":
        """Some of the samples, such as those of one rank or micro batch."""
        return Augmentation(self.shifts[which], self.colors[which], self.state[which])

    def images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Shift (edges repeated) and recolour uint8 `(batch, height, width, 3)`."""
        height, width = images.shape[1:3]
        moved = images
        if self.shifts.any():
            rows = np.clip(np.arange(height) - self.shifts[:, 1:], 0, height - 1)
            columns = np.clip(np.arange(width) - self.shifts[:, :1], 0, width - 1)
            moved = images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
        return moved if (self.colors == 1).all() else _recolored(moved, self.colors)

    def key_points(self, points: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """Move u, v of key points `(batch, K, 5)` with the image; u and v span [-1, 1] over the image."""
        moved = points.copy()
        moved[:, :, 3] += 2 * self.shifts[:, :1] / width
        moved[:, :, 4] += 2 * self.shifts[:, 1:] / height
        return moved


def _recolored(images: NDArray[np.uint8], factors: NDArray[np.float32]) -> NDArray[np.uint8]:
    brightness, contrast, saturation = (factors[:, i, None, None, None] for i in range(3))
    colors = images.astype(np.float32) * brightness
    grey = (colors @ LUMA)[..., None]
    colors = (colors - grey.mean(axis=(1, 2), keepdims=True)) * contrast + grey.mean(axis=(1, 2), keepdims=True)
    grey = (colors @ LUMA)[..., None]
    colors = (colors - grey) * saturation + grey
    return np.clip(np.rint(colors), 0, 255).astype(np.uint8)
