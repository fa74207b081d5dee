"""What one training sample costs, counted on the real modules without memory: PyTorch's meta device.

Floating point operations are those of PyTorch's own counter over one forward and backward pass; activations are what
autograd keeps for the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from psi0 import params
from psi0.model.low_rank import add_low_rank, learn_new_parts
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
        checkpoints: numbers that are kept with gradient checkpointing: the inputs of the layers that learn, and what
            one layer keeps while it is recomputed.
        features: numbers that System-2 hands on per frame.
    """

    parameters: int
    trained: int
    flops: int
    activations: int
    checkpoints: int
    features: int


def stage_costs(everything: params.Params) -> dict[str, Cost]:
    """Cost per sample of `pretrain`, `posttrain` and `finetune`. The key-point head is left out: it is small."""
    first = everything.pretrain
    system2 = untrained_system2(everything, "meta").train()
    if first.lora_rank:
        add_low_rank(system2, first.lora_rank, first.lora_alpha, first.seed)
        learn_new_parts(system2)
    return {
        "pretrain": _count(system2, None, lambda: _next_tokens(system2), first.gradient_checkpointing),
        "posttrain": _expert_stage(everything, everything.posttrain, everything.posttrain.chunk),
        "finetune": _expert_stage(everything, everything.finetune, everything.control.chunk),
    }


def _expert_stage(everything: params.Params, own: params.ChunkTraining, chunk: int) -> Cost:
    system2 = untrained_system2(everything, "meta").train()
    system1 = untrained_expert(everything, chunk, system2.config.hidden_size, "meta")
    learns = isinstance(own, params.Finetune) and own.tune_system2
    cotrain = isinstance(own, params.Posttrain) and own.cotrain
    system2.requires_grad_(learns or cotrain)
    if isinstance(own, params.Finetune) and own.lora_rank:
        add_low_rank(system2, own.lora_rank, own.lora_alpha, own.seed)
    if cotrain:
        # A sample is a chunk and a next-token sample, each with an image of its own.
        def both() -> Tensor:
            return _velocities(system2, system1, False, False) + _next_tokens(system2)

        return _count(system2, system1, both, own.gradient_checkpointing, passes=2)
    run = partial(_velocities, system2, system1, not learns, own.cache_features)
    return _count(system2, system1, run, own.gradient_checkpointing)


def _count(
    system2: System2, system1: ActionExpert | None, run: Callable[[], Tensor], recomputes: bool, passes: int = 1
) -> Cost:
    """Cost of `run`, in which System-2 is passed through so many times."""
    modules: list[System2 | ActionExpert] = [system2] if system1 is None else [system2, system1]
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
    learning = [module for module in modules if any(value.requires_grad for value in module.parameters())]
    if recomputes:
        # What is frozen is not computed again; the backward pass of what learns costs twice its forward pass.
        flops += forward if system2 in learning else (flops - forward) // 2
        checkpoints = _checkpointed(learning, _tokens(system2), activations, passes)
    trained = sum(value.numel() for value in every if value.requires_grad)
    features = _tokens(system2) * system2.config.hidden_size
    return Cost(sum(value.numel() for value in every), trained, flops, activations, checkpoints, features)


def _tokens(system2: System2) -> int:
    return system2.config.image_tokens + system2.config.max_text_tokens


def _checkpointed(learning: list[System2 | ActionExpert], context: int, activations: int, passes: int) -> int:
    """Inputs of all layers that learn, and one layer's share of everything that would be kept otherwise.

    `context` is the number of hidden states that System-1 sees, `passes` how often System-2 is passed through.
    """
    inputs = layers = 0
    for module in learning:
        if isinstance(module, System2):
            config, vision = module.config, module.qwen.config.vision_config
            depth, tokens = module.qwen.config.text_config.num_hidden_layers, _tokens(module)
            inputs += passes * depth * tokens * config.hidden_size
            inputs += passes * vision.depth * config.image_tokens * config.merge**2 * vision.hidden_size
            layers += passes * (depth + vision.depth)
        else:
            sizes = module.config
            # Blocks of cross-attention all read the same observation tokens.
            copies = sizes.blocks if sizes.attention == "joint" else 1
            inputs += (sizes.blocks * sizes.horizon + copies * (context + 1)) * sizes.hidden_size
            layers += sizes.blocks
    return min(activations, inputs + activations // layers)


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


def _velocities(system2: System2, system1: ActionExpert, frozen: bool, cached: bool) -> Tensor:
    images, ids = _inputs(system2)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        if cached:
            hidden = torch.zeros(*ids.shape, system2.config.hidden_size, device="meta")
        else:
            hidden = system2.language(ids, *system2.vision(system2.patches(images)))
    with torch.device("meta"):
        actions = torch.zeros(1, system1.config.horizon, ACTION_SIZE)
        time, state = torch.zeros(1, system1.config.horizon), torch.zeros(1, STATE_SIZE)
        return system1.velocity(actions, time, hidden, None, state).sum()
