"""Velocity and pull of guided sampling (`psi0.model.guidance`) in torch: for the torch policy and for export."""

from typing import Any

import torch
from torch import Tensor, nn

from psi0.model.planned_field import PlannedField


class GuidedField(nn.Module):
    """One evaluation of the velocity field, and the vector-Jacobian product that leads towards promised actions."""

    def __init__(self, field: PlannedField) -> None:
        super().__init__()
        self.field = field

    def forward(
        self,
        actions: Tensor,
        step: Tensor,
        state: Tensor,
        context: Tensor,
        context_mask: Tensor,
        target: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Velocity and pull, both `(batch, horizon, 36)`.

        Args:
            actions: noisy normalised actions `(batch, horizon, 36)`, all at the step's level.
            step: as `PlannedField` takes it, like the next three.
            state: normalised state `(batch, 32)`.
            context: System-2's hidden states `(batch, n, context_size)`.
            context_mask: float `(batch, n)`, 1 where a token counts.
            target: promised actions, as `actions`.
            weight: soft mask `(batch, horizon, 1)`.
        """
        level, modulation = torch.index_select(self.field.levels, 0, step), self.field.modulation(step)

        def estimate(noisy: Tensor) -> tuple[Tensor, Tensor]:
            velocity = self.field.velocity(noisy, modulation, state, context, context_mask)
            return noisy - level * velocity, velocity

        found: Any = torch.func.vjp(estimate, actions, has_aux=True)
        clean, back, velocity = found
        (pull,) = back((target - clean) * weight)
        return velocity, pull
