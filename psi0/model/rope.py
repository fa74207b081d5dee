"""Positions of prompt tokens for Qwen3-VL's three-axis rotary embedding (time, height, width). NumPy only."""

import numpy as np
from numpy.typing import NDArray


def rope_index(length: int, image_start: int, grid_height: int, grid_width: int) -> NDArray[np.int64]:
    """Positions `(3, length)` of a prompt that holds one image.

    Text counts up on all three axes together. The image's tokens share one time and carry their row and column; the
    text behind it goes on from the largest of them (`Qwen3VLModel.get_rope_index` of transformers 5.23).

    Args:
        length: tokens in the prompt, padding included.
        image_start: index of the first image token.
        grid_height: rows of image tokens, after merging.
        grid_width: columns of image tokens, after merging.
    """
    rows, columns = np.divmod(np.arange(grid_height * grid_width), grid_width)
    image = np.stack([np.zeros_like(rows), rows, columns]) + image_start
    image_end = image_start + grid_height * grid_width
    after = np.arange(length - image_end) + image_start + max(grid_height, grid_width)
    text_before, text_after = np.tile(np.arange(image_start), (3, 1)), np.tile(after, (3, 1))
    return np.concatenate([text_before, image, text_after], axis=1).astype(np.int64)
