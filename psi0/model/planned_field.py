"""The velocity field at the levels of a schedule that is known beforehand: what becomes the graph of one Euler step.

What is seen does not change within a chunk: `ObservedContext` makes tokens of it once, beforehand. All that a noise
level decides (time embedding, shifts, scales, gates) is a constant. At the published sizes the layers that compute it
are a third of the weights; a table of their outputs is a hundredth of that.
"""

from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.model.system1 import ActionExpert, Modulation


class ObservedContext(nn.Module):
    """What an expert makes of an observation before the first Euler step."""

    def __init__(self, system1: ActionExpert) -> None:
        super().__init__()
        self.system1 = system1

    def forward(self, state: Tensor, context: Tensor, context_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Observation tokens `(batch, n + 1, hidden)` and the additive mask `(batch, 1, 1, horizon + n + 1)`.

        Args:
            state: normalised state `(batch, <= state_size)`.
            context: System-2's hidden states `(batch, n, context_size)`.
            context_mask: float `(batch, n)`, 1 where a token counts.
        """
        mask = self.system1.attention_mask(context_mask > 0.5, context.dtype)
        return self.system1.observe(context, state), mask


class PlannedField(nn.Module):
    """An expert's velocity at the levels of one schedule, whose modulation is looked up instead of computed."""

    levels: Tensor
    own: Tensor
    seen: Tensor

    def __init__(self, system1: ActionExpert, levels: Tensor) -> None:
        """Compute the tables, one row per level.

        Args:
            system1: in evaluation mode; its weights must not change afterwards.
            levels: noise levels `(steps + 1,)` from 1 to 0 (`psi0.model.euler.schedule`). The last one, 0, is that of
                clean actions at every step.
        """
        super().__init__()
        self.system1 = system1
        with torch.no_grad():
            modulation = system1.modulate(levels)
        # What actions are modulated by, the output at the end; then what observations are modulated by.
        own = [part for action, _ in modulation.blocks for part in action] + list(modulation.out)
        seen = [part for _, observation in modulation.blocks for part in observation]
        self._own, self._seen = [part.shape[-1] for part in own], [part.shape[-1] for part in seen]
        self._counts = [(len(action), len(observation)) for action, observation in modulation.blocks]
        self.register_buffer("levels", levels)
        self.register_buffer("own", torch.cat(own, dim=-1)[:, 0].float())
        # A plain DiT modulates no observations.
        self.register_buffer(
            "seen", torch.cat(seen, dim=-1)[:, 0].float() if seen else levels.new_empty(len(levels), 0)
        )

    def forward(
        self, actions: Tensor, step: Tensor, late: Tensor, observations: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Velocity `(batch, horizon, 36)`.

        Args:
            actions: noisy normalised actions `(batch, horizon, 36)`.
            step: int64 `(1,)`, index into the schedule, below its number of steps.
            late: float `(batch, horizon)`, 1 where an action has the step's level and 0 where it is clean.
            observations: what `ObservedContext` made of the observation, with its mask.
            attention_mask: additive, `(batch, 1, 1, horizon + n + 1)`.
        """
        return self.system1(actions, observations, self.modulation(step, late), attention_mask)

    def modulation(self, step: Tensor, late: Tensor | None = None) -> Modulation:
        """The modulation of a step, for any batch; `late` as `forward` takes it, None when no action is clean."""
        rows = step[None] if late is None else torch.where(late > 0.5, step, len(self.own) - 1)
        own = iter(functional.embedding(rows, self.own).split(self._own, dim=-1))
        seen = iter(functional.embedding(step[None], self.seen).split(self._seen, dim=-1) if self._seen else ())
        blocks = tuple((tuple(islice(own, mine)), tuple(islice(seen, others))) for mine, others in self._counts)
        shift, scale = own
        return Modulation(blocks, (shift, scale))
