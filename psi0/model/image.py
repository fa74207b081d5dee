"""Camera images as Qwen3-VL takes them: resized, scaled to [-1, 1], cut into flattened patches. NumPy only."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

TEMPORAL_PATCH = 2
"""Qwen3-VL's patches span two frames; a still image is shown twice."""


def model_size(height: int, width: int, patch_size: int, merge: int) -> tuple[int, int]:
    """The size (height, width) that a camera image is resized to: multiples of `patch_size * merge`, at least one."""
    unit = patch_size * merge
    return max(1, round(height / unit)) * unit, max(1, round(width / unit)) * unit


@cache
def resize_matrix(size_in: int, size_out: int) -> NDArray[np.float32]:
    """Weights `(size_out, size_in)` of linear interpolation along one axis, averaging where it shrinks.

    Pixel centers lie at half integers; the triangle filter widens with the scale, as in Pillow's BILINEAR.
    """
    scale = size_in / size_out
    support = max(scale, 1.0)
    centers = (np.arange(size_out) + 0.5) * scale
    distance = np.abs(np.arange(size_in) + 0.5 - centers[:, None]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resize(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize uint8 `(batch, h, w, 3)` to `(batch, height, width, 3)`; images that fit are returned as they are."""
    if images.shape[1:3] == (height, width):
        return images
    rows, columns = resize_matrix(images.shape[1], height), resize_matrix(images.shape[2], width)
    resized = np.einsum("yh,bhwc->bywc", rows, images.astype(np.float32), optimize=True)
    resized = np.einsum("xw,bywc->byxc", columns, resized, optimize=True)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def patches(images: NDArray[np.uint8], patch_size: int, merge: int) -> NDArray[np.float32]:
    """Flattened patches `(batch * rows * columns, 3 * 2 * patch_size**2)` in Qwen's order.

    Patches that will be merged into one token follow each other; inside a patch the order is channel, frame, y, x.

    Args:
        images: uint8 `(batch, height, width, 3)`, sizes being multiples of `patch_size * merge`.
        patch_size: patch edge [pixels].
        merge: patches merged along each axis.
    """
    batch, height, width, _ = images.shape
    scaled = images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    rows, columns = height // (patch_size * merge), width // (patch_size * merge)
    cut = scaled.reshape(batch, rows, merge, patch_size, columns, merge, patch_size, 3)
    ordered = cut.transpose(0, 1, 4, 2, 5, 7, 3, 6)[:, :, :, :, :, :, None]
    doubled = np.repeat(ordered, TEMPORAL_PATCH, axis=6)
    return np.ascontiguousarray(doubled.reshape(batch * rows * columns * merge * merge, -1))
