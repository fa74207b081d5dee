"""AdaLN: how a noise level shifts and scales normalised tokens. What both kinds of the action expert's blocks share."""

import torch
from torch import Tensor
from torch.nn import functional

NORM_EPSILON = 1e-6

BlockModulation = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""What a noise level decides in one block: vectors for the action tokens, then for the observation tokens (or none)."""


def modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalised tokens `(batch, tokens, hidden)`, scaled by `1 + scale` and shifted."""
    return torch.addcmul(shift, functional.layer_norm(tokens, tokens.shape[-1:], eps=NORM_EPSILON), 1 + scale)


def per_action(pair: Tensor, late: Tensor | None) -> Tensor:
    """Of two rows `(batch, 2, numbers)` the first for late actions, the second for the others; as they are if None."""
    return pair if late is None else torch.where(late[..., None], pair[:, :1], pair[:, 1:])
