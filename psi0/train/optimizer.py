"""Parameter groups and learning-rate schedule."""

import math
from typing import Any

import torch
from torch import nn

from psi0.params import Training


def parameter_groups(
    module: nn.Module, training: Training, own_rates: dict[str, float] | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters in groups for AdamW: weight decay on matrices only, each group with its `peak` rate.

    Args:
        module: what is trained; parameters without `requires_grad` are left out.
        training: learning rate and weight decay.
        own_rates: peak rate for parameters whose name starts with a prefix, e.g. `{"system2.vision": 1e-5}`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        peak = training.learning_rate
        for prefix, rate in (own_rates or {}).items():
            if name.startswith(prefix):
                peak = rate
        decay = training.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    return [
        {"params": parameters, "peak": peak, "lr": peak, "weight_decay": decay}
        for (peak, decay), parameters in groups.items()
    ]


def make_optimizer(groups: list[dict[str, Any]], training: Training) -> torch.optim.AdamW:
    """PyTorch's own fused AdamW: DeepSpeed's would be compiled at start-up; one kernel per tensor is much slower."""
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(training.beta1, training.beta2), fused=True)


def rate_factor(step: int, training: Training) -> float:
    """Factor on the peak learning rate for step 0, 1, ...: linear warm-up, then constant or cosine to zero."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
