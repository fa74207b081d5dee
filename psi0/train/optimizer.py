"""Parameter groups, the optimiser, and the learning-rate schedule."""

import math
from typing import Any

import torch
from torch import nn

from psi0.params import Training
from psi0.train.muon import Muon
from psi0.train.precision import FLOAT32

_SMALLEST_MATRIX = 32
"""Rows and columns from which on Muon takes a matrix; narrower ones have no directions to tell apart."""


def parameter_groups(
    module: nn.Module, training: Training, own_rates: dict[str, float] | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters in groups: weight decay on matrices only, each group with its `peak` rate.

    Args:
        module: what is trained; parameters without `requires_grad` are left out.
        training: optimiser, learning rates and weight decay.
        own_rates: peak rate for parameters whose name starts with a prefix, e.g. `{"system2.vision": 1e-5}`; with Muon
            its matrices' rate changes in proportion.
    """
    matrices = _matrices(module) if training.optimizer == "muon" else set()
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        peak = training.learning_rate
        for prefix, rate in (own_rates or {}).items():
            if name.startswith(prefix):
                peak = rate
        decay = training.weight_decay if parameter.ndim > 1 else 0.0
        orthogonal = id(parameter) in matrices
        if orthogonal:
            peak *= training.matrix_learning_rate / training.learning_rate
        groups.setdefault((peak, decay, orthogonal), []).append(parameter)
    return [
        {"params": parameters, "peak": peak, "lr": peak, "weight_decay": decay, "orthogonal": orthogonal}
        for (peak, decay, orthogonal), parameters in groups.items()
    ]


def _matrices(module: nn.Module) -> set[int]:
    """Identities of the weights of linear and convolutional layers; tables and low-rank updates are none."""
    tables = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    return {
        id(layer.weight)
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and min(len(layer.weight), layer.weight[0].numel()) >= _SMALLEST_MATRIX
    } - tables


def make_optimizer(groups: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """Muon, or PyTorch's own fused AdamW: DeepSpeed's would be compiled at start-up; one kernel per tensor is slow."""
    betas = (training.beta1, training.beta2)
    if training.optimizer == "muon":
        arithmetic = torch.float32 if training.precision == FLOAT32 else torch.bfloat16
        return Muon(groups, training.learning_rate, betas, arithmetic)
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=betas, fused=True)


def rate_factor(step: int, training: Training) -> float:
    """Factor on the peak learning rate for step 0, 1, ...: linear warm-up, then constant or cosine to zero."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
