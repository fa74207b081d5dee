"""Velocity and pull of guided sampling (`psi0.model.guidance`) in torch: for the torch policy and for export."""

from typing import Any

import torch
from torch import Tensor, nn

from psi0.model.system1 import ActionExpert


class GuidedField(nn.Module):
    """One evaluation of the velocity field, and the vector-Jacobian product that leads towards promised actions."""

    def __init__(self, system1: ActionExpert) -> None:
        super().__init__()
        self.system1 = system1

    def forward(
        self,
        actions: Tensor,
        time: Tensor,
        state: Tensor,
        context: Tensor,
        context_mask: Tensor,
        target: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Velocity and pull, both `(batch, horizon, 36)`.

        Args:
            actions: noisy normalised actions `(batch, horizon, 36)`.
            time: noise level `(batch, horizon)`, the same in all columns.
            state: normalised state `(batch, 32)`.
            context: System-2's hidden states `(batch, n, context_size)`.
            context_mask: float `(batch, n)`, 1 where a token counts.
            target: promised actions, as `actions`.
            weight: soft mask `(batch, horizon, 1)`.
        """

        def estimate(noisy: Tensor) -> tuple[Tensor, Tensor]:
            velocity = self.system1.velocity(noisy, time, context, context_mask > 0.5, state)
            return noisy - time[..., None] * velocity, velocity

        found: Any = torch.func.vjp(estimate, actions, has_aux=True)
        clean, back, velocity = found
        (pull,) = back((target - clean) * weight)
        return velocity, pull
