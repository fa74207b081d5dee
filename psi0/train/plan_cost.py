"""What one training sample costs, counted on the real modules without memory: PyTorch's meta device.

Floating point operations are those of PyTorch's own counter over one forward and backward pass; activations are what
autograd keeps for the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from psi0 import params
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2
from psi0.model.untrained import untrained_expert, untrained_system2
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE

ANSWER_TOKENS = 20
"""FAST tokens per stage-1 action (paper main text); the vocabulary layer scores only these."""


@dataclass(frozen=True)
class Cost:
    """One stage, per sample.

    Attributes:
        parameters: all of them, frozen ones included.
        trained: those that learn.
        flops: floating point operations of forward and backward.
        activations: numbers that autograd keeps, without recomputation.
        checkpoints: numbers that are kept with gradient checkpointing: the inputs of System-2's layers, and what its
            costliest layer keeps while it is recomputed.
    """

    parameters: int
    trained: int
    flops: int
    activations: int
    checkpoints: int


def stage_costs(everything: params.Params) -> dict[str, Cost]:
    """Cost per sample of `pretrain`, `posttrain` and `finetune`. The key-point head is left out: it is small."""
    system2 = untrained_system2(everything, "meta").train()
    own = everything.finetune
    return {
        "pretrain": _count(system2, None, lambda: _next_tokens(system2), everything.pretrain.gradient_checkpointing),
        "posttrain": _expert_stage(system2, everything, everything.posttrain.chunk, frozen=True),
        "finetune": _expert_stage(system2, everything, everything.control.chunk, frozen=not own.tune_system2),
    }


def _expert_stage(system2: System2, everything: params.Params, chunk: int, *, frozen: bool) -> Cost:
    system1 = untrained_expert(everything, chunk, system2.config.hidden_size, "meta")
    system2.requires_grad_(not frozen)
    try:
        return _count(system2, system1, lambda: _velocities(system2, system1, frozen), False)
    finally:
        system2.requires_grad_(True)


def _count(system2: System2, system1: ActionExpert | None, run: Callable[[], Tensor], recomputes: bool) -> Cost:
    modules = [module for module in (system2, system1) if module is not None]
    every = [value for module in modules for value in module.parameters()]
    kept: dict[int, int] = {}
    own = {id(value) for value in every}

    def keep(value: Tensor) -> Tensor:
        base = value if value._base is None else value._base
        if id(base) not in own:
            kept[id(base)] = base.numel()
            alive.append(base)
        return value

    alive: list[Tensor] = []
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = run()
        forward = counter.get_total_flops()
        loss.backward()
    for value in every:
        value.grad = None
    activations = sum(kept.values())
    flops = counter.get_total_flops()
    checkpoints = activations
    if recomputes:
        flops += forward
        checkpoints = _checkpointed(system2, activations)
    trained = sum(value.numel() for value in every if value.requires_grad)
    return Cost(sum(value.numel() for value in every), trained, flops, activations, checkpoints)


def _checkpointed(system2: System2, activations: int) -> int:
    """Inputs of all layers, and one layer's share of everything that would be kept otherwise."""
    config, vision = system2.config, system2.qwen.config.vision_config
    layers = system2.qwen.config.text_config.num_hidden_layers
    patches = config.image_tokens * config.merge**2
    tokens = config.image_tokens + config.max_text_tokens
    inputs = layers * tokens * config.hidden_size + vision.depth * patches * vision.hidden_size
    return min(activations, inputs + activations // (layers + vision.depth))


def _inputs(system2: System2) -> tuple[Tensor, Tensor]:
    config = system2.config
    with torch.device("meta"):
        images = torch.zeros(1, config.image_height, config.image_width, 3, dtype=torch.uint8)
        ids = torch.zeros(1, config.image_tokens + config.max_text_tokens, dtype=torch.int64)
    return images, ids


def _next_tokens(system2: System2) -> Tensor:
    images, ids = _inputs(system2)
    hidden = system2.language(ids, *system2.vision(system2.patches(images)))
    return system2.qwen.lm_head(hidden[:, -ANSWER_TOKENS:]).sum()


def _velocities(system2: System2, system1: ActionExpert, frozen: bool) -> Tensor:
    images, ids = _inputs(system2)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        hidden = system2.language(ids, *system2.vision(system2.patches(images)))
    with torch.device("meta"):
        actions = torch.zeros(1, system1.config.horizon, ACTION_SIZE)
        time, state = torch.zeros(1, system1.config.horizon), torch.zeros(1, STATE_SIZE)
        return system1.velocity(actions, time, hidden, None, state).sum()
