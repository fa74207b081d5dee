"""AdaLN: how a noise level shifts and scales normalised tokens. What both kinds of the action expert's blocks share."""

import torch
from torch import Tensor
from torch.nn import functional

NORM_EPSILON = 1e-6

BlockModulation = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""What a noise level decides in one block: vectors for the action tokens, then for the observation tokens (or none)."""


def modulated(tokens: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
    """Normalised tokens `(batch, tokens, hidden)`, scaled by `gain` (1 plus the published scale) and shifted."""
    return torch.addcmul(shift, functional.layer_norm(tokens, tokens.shape[-1:], eps=NORM_EPSILON), gain)


def per_action(levels: Tensor, rows: Tensor | None) -> Tensor:
    """Of numbers per level `(levels, 1, numbers)` those of the levels `(batch, horizon)`; as they are if None.

    A look-up: its gradient is one pass over that of the actions, where choosing by a mask takes four.
    """
    return levels if rows is None else functional.embedding(rows, levels[:, 0])
