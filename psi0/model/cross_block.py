"""A block of the plain DiT, the baseline that the paper's joint attention of two streams is compared with (its Fig. 3).

Action tokens attend to each other, then to the observation tokens, which stay as they are from block to block. Flow
time modulates the action tokens alone: shift, scale and gate of each of the three parts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.model.feed_forward import FeedForward
from psi0.model.modulation import NORM_EPSILON, BlockModulation, modulated, per_action

_VECTORS = 9


class CrossBlock(nn.Module):
    """Self-attention, cross-attention and MLP of the action tokens; called as `psi0.model.system1.Block` is."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(hidden_size, _VECTORS * hidden_size)
        self.project = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.context = nn.Linear(hidden_size, 2 * hidden_size)
        self.context_out = nn.Linear(hidden_size, hidden_size)
        self.feed_forward = FeedForward(hidden_size)

    def modulate(self, action_time: Tensor, observation_time: Tensor, rows: Tensor | None) -> BlockModulation:
        """Shift, gain and gate of each part of the action tokens, from activated time embeddings; nothing of others."""
        chunks = per_action(self.modulation(action_time), rows).chunk(_VECTORS, dim=-1)
        return tuple(1 + chunk if number % 3 == 1 else chunk for number, chunk in enumerate(chunks)), ()

    def forward(
        self, actions: Tensor, observations: Tensor, modulation: BlockModulation, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Update the action tokens; `mask` is additive, `(batch, 1, 1, actions + observations)`."""
        vectors = modulation[0]
        key, value, query = self._cut(self.project(modulated(actions, *vectors[0:2])))
        actions = torch.addcmul(actions, vectors[2], self.out(_attend(query, key, value, None)))
        (query,) = self._cut(self.query(modulated(actions, *vectors[3:5])))
        seen = functional.layer_norm(observations, observations.shape[-1:], eps=NORM_EPSILON)
        key, value = self._cut(self.context(seen))
        hidden = None if mask is None else mask[..., actions.shape[1] :]
        actions = torch.addcmul(actions, vectors[5], self.context_out(_attend(query, key, value, hidden)))
        actions = torch.addcmul(actions, vectors[8], self.feed_forward(modulated(actions, *vectors[6:8])))
        return actions, observations

    def _cut(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Projections side by side `(batch, tokens, n * hidden)` as n of `(batch, heads, tokens, size)`."""
        size = self.query.out_features // self.heads
        return projected.unflatten(-1, (-1, self.heads, size)).permute(2, 0, 3, 1, 4).unbind(0)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of all heads, `(batch, queries, hidden)`."""
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
