"""Rectified flow: the loss with training-time real-time chunking (RTC), and the torch sampler.

Published convention: noise level 1 is noise, 0 is the action; `x = (1 - t) * action + t * noise`, the network predicts
`noise - action`, and t is uniform. Under training-time RTC the first d steps of a chunk are given clean (t = 0) and
left out of the loss, d uniform in 0 to max_delay - 1, so that the policy learns to go on from actions already promised.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from psi0.model.system1 import ActionExpert


@dataclass(frozen=True)
class FlowLoss:
    """The flow-matching loss of a batch.

    Attributes:
        loss: scalar, mean squared error over everything the masks keep.
        per_sample: `(batch,)`, the same per sample (detached), to name the sample behind a spike.
    """

    loss: Tensor
    per_sample: Tensor


def flow_loss(
    expert: ActionExpert,
    actions: Tensor,
    context: Tensor,
    context_mask: Tensor | None,
    state: Tensor,
    *,
    action_mask: Tensor | None = None,
    max_delay: int = 0,
    promised: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> FlowLoss:
    """Loss on one batch.

    Args:
        expert: the network.
        actions: normalised clean chunks `(batch, horizon, 36)`.
        context: hidden states `(batch, n, context_size)`.
        context_mask: bool `(batch, n)` or None.
        state: normalised state `(batch, 32)`.
        action_mask: bool or float, broadcastable to `actions`; 0 where a number does not count (padded dimension,
            step past the end of an episode). None: all count.
        max_delay: clean prefixes of 0 to `max_delay - 1` steps; 0 turns RTC off.
        promised: what stands in clean prefixes, of the shape of `actions`; None: the actions themselves.
        generator: source of noise, noise levels and delays.
    """
    batch, horizon = actions.shape[:2]
    noise = torch.randn(actions.shape, generator=generator, dtype=actions.dtype, device=actions.device)
    level = torch.rand(batch, generator=generator, dtype=actions.dtype, device=actions.device)
    weight = torch.ones_like(actions) if action_mask is None else action_mask.to(actions.dtype).expand_as(actions)
    target, late = noise - actions, None
    time = level[:, None]
    if max_delay > 0:
        delay = torch.randint(0, max_delay, (batch, 1), generator=generator, device=actions.device)
        late = torch.arange(horizon, device=actions.device) >= delay
        time = time * late
        weight = weight * late[..., None]
    noisy = torch.addcmul(actions, time[..., None], target)
    if late is not None and promised is not None:
        noisy = torch.where(late[..., None], noisy, promised)
    velocity = expert.velocity(noisy, level, context, context_mask, state, late)
    squared = (velocity - target).square() * weight
    sums, counts = squared.sum(dim=(1, 2)), weight.sum(dim=(1, 2))
    return FlowLoss(sums.sum() / counts.sum().clamp(min=1), (sums / counts.clamp(min=1)).detach())


@torch.inference_mode()
def sample_actions(
    expert: ActionExpert,
    noise: Tensor,
    levels: Tensor,
    context: Tensor,
    context_mask: Tensor | None,
    state: Tensor,
    prefix: Tensor | None = None,
) -> Tensor:
    """Integrate noise `(batch, horizon, 36)` to normalised actions with Euler steps.

    The schedule is known beforehand, so everything that depends on noise levels or observations alone is computed once.

    Args:
        expert: the network, in evaluation mode.
        noise: standard normal.
        levels: noise levels `(steps + 1,)` from 1 to 0 (`psi0.model.euler.schedule`).
        context: hidden states, as in `flow_loss`.
        context_mask: bool `(batch, n)` or None.
        state: normalised state.
        prefix: clean actions `(batch, n <= horizon, 36)` that will be executed whatever comes out, or None.
    """
    actions = noise.clone()
    clean = 0 if prefix is None else prefix.shape[1]
    late = None
    if clean:
        late = (torch.arange(actions.shape[1], device=actions.device) >= clean).expand(len(levels) - 1, -1)
    modulation = expert.modulate(levels[:-1], late)
    observations = expert.observe(context, state)
    mask = None if context_mask is None else expert.attention_mask(context_mask, actions.dtype)
    for index, change in enumerate(levels.diff().tolist()):
        if prefix is not None:
            actions[:, :clean] = prefix
        actions = torch.add(actions, expert(actions, observations, modulation.at(index), mask), alpha=change)
    if prefix is not None:
        actions[:, :clean] = prefix
    return actions
