"""Random changes to a training sample: image shift with its labels, colour jitter, noise on the state.

All numbers of a global batch are drawn at once from (seed, step) and then dealt out, so that the rank count does not
change them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psi0.params import Training

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SAME_COLORS = (1.0, 1.0, 1.0, 0.0)
"""Factors and turn that leave an image as it is."""
_HUE_SHARE = 0.25
"""Hue turns by up to this share of the jitter, in whole turns: 0.05 at the published 0.2."""
_GREY_AXIS = np.full(3, 3**-0.5)


@dataclass(frozen=True)
class Augmentation:
    """What is done to each sample of a batch.

    Attributes:
        shifts: int64 `(batch, 2)`, how far the image moves right and down [pixels].
        colors: float32 `(batch, 4)`, factors on brightness, contrast and saturation, and the turn of the hue [rad].
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
        reach, jitter = training.image_shift, training.color_jitter
        colors = SAME_COLORS + source.uniform(-jitter, jitter, (batch, 4)) * [1, 1, 1, 2 * np.pi * _HUE_SHARE]
        return cls(
            shifts=source.integers(-reach, reach + 1, (batch, 2)),
            colors=colors.astype(np.float32),
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
            # Image by image: choosing from all at once takes three times as long.
            moved = np.stack([one.take(rows[i], 0).take(columns[i], 1) for i, one in enumerate(images)])
        return moved if (self.colors == SAME_COLORS).all() else _recolored(moved, self.colors)

    def key_points(self, points: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """Move u, v of key points `(batch, K, 5)` with the image; u and v span [-1, 1] over the image."""
        moved = points.copy()
        moved[:, :, 3] += 2 * self.shifts[:, :1] / width
        moved[:, :, 4] += 2 * self.shifts[:, 1:] / height
        return moved


def _recolored(images: NDArray[np.uint8], colors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Brightness, contrast about the mean grey, saturation and hue, as one linear map of colours per image.

    Sums over pixels are products, and additions run over whole rows: NumPy is slow along an axis of three.
    """
    brightness, contrast, saturation = (colors[:, i, None, None] for i in range(3))
    pixels = images.reshape(len(images), -1, 3).astype(np.float32)
    count = pixels.shape[1]
    # Saturation is the distance to the pixel's grey; hue turns about the axis on which grey lies.
    grey = np.tile(LUMA, (3, 1))
    linear = (grey + saturation * (np.eye(3, dtype=np.float32) - grey)) @ _turns(colors[:, 3])
    mean_grey = np.full((1, 1, count), 1 / count, np.float32) @ pixels @ LUMA[:, None]
    changed = (pixels @ (brightness * contrast * linear).transpose(0, 2, 1)).reshape(len(images), -1)
    changed += (brightness * (1 - contrast) * mean_grey)[:, :, 0]
    return np.clip(np.rint(changed, out=changed), 0, 255, out=changed).astype(np.uint8).reshape(images.shape)


def _turns(angles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotations about the grey axis `(n, 3, 3)` by angles `(n,)` [rad]: hue as a linear map of red, green and blue."""
    x, y, z = _GREY_AXIS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    along = np.outer(_GREY_AXIS, _GREY_AXIS)
    sine, cosine = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    return (cosine * (np.eye(3) - along) + along + sine * cross).astype(np.float32)
