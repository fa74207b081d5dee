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
        observations: Tensor,
        attention_mask: Tensor,
        target: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Velocity and pull, both `(batch, horizon, 36)`.

        Args:
            actions: noisy normalised actions `(batch, horizon, 36)`, all at the step's level.
            step: as `PlannedField` takes it, like the next two.
            observations: tokens of what is seen.
            attention_mask: additive, over actions and observations.
            target: promised actions, as `actions`.
            weight: soft mask `(batch, horizon, 1)`.
        """
        level, modulation = torch.index_select(self.field.levels, 0, step), self.field.modulation(step)

        def estimate(noisy: Tensor) -> tuple[Tensor, Tensor]:
            velocity = self.field.system1(noisy, observations, modulation, attention_mask)
            return noisy - level * velocity, velocity

        found: Any = torch.func.vjp(estimate, actions, has_aux=True)
        clean, back, velocity = found
        (pull,) = back((target - clean) * weight)
        return velocity, pull
