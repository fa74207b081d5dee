"""What one training sample costs, counted on the real modules without memory: PyTorch's meta device.

Floating point operations are those of PyTorch's own counter over one forward and backward pass; activations are what
autograd keeps for the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3VLConfig

from psi0 import params
from psi0.model import qwen, text
from psi0.model.config import System1Config, System2Config
from psi0.model.image import TEMPORAL_PATCH, model_size
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE

ANSWER_TOKENS = 20
"""FAST tokens per stage-1 action (paper main text); the vocabulary layer scores only these."""
QWEN_TOKENS = 151_669
"""Size of Qwen3-VL's stock text tokenizer; the published code adds FAST's tokens and two that mark their ends."""

# Qwen3-VL-2B-Instruct, published configuration; 2,131,333,120 parameters once the vocabulary is extended for FAST.
_QWEN3_VL_2B_TEXT = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262_144,
    "tie_word_embeddings": True,
}
_QWEN3_VL_2B_VISION = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "patch_size": 16,
    "temporal_patch_size": TEMPORAL_PATCH,
    "spatial_merge_size": 2,
    "out_hidden_size": 2048,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
}


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
    system2 = _system2(everything)
    own = everything.finetune
    return {
        "pretrain": _count(system2, None, lambda: _next_tokens(system2), everything.pretrain.gradient_checkpointing),
        "posttrain": _expert_stage(system2, everything, everything.posttrain.chunk, frozen=True),
        "finetune": _expert_stage(system2, everything, everything.control.chunk, frozen=not own.tune_system2),
    }


def _expert_stage(system2: System2, everything: params.Params, chunk: int, *, frozen: bool) -> Cost:
    sizes = everything.system1
    config = System1Config(
        schema_version=1,
        horizon=chunk,
        context_size=system2.config.hidden_size,
        hidden_size=sizes.hidden_size,
        blocks=sizes.blocks,
        heads=sizes.heads,
    )
    with torch.device("meta"):
        system1 = ActionExpert(config)
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
        return system1(actions, time, hidden, None, state).sum()


def _system2(everything: params.Params) -> System2:
    """The backbone of these parameters on the meta device."""
    sizes, camera = everything.system2, everything.camera
    tokens = _text_tokens(everything.tokenizer)
    rows = qwen.padded_vocabulary(tokens)
    height, width = model_size(camera.height, camera.width, sizes.patch_size, sizes.merge)
    grid = (height // sizes.patch_size, width // sizes.patch_size)
    settings = _qwen_config(sizes, rows, grid)
    with torch.device("meta"):
        model = qwen.build(settings, stem=sizes.convolutional_stem, grid=grid)
    # Its constants are computed when System-2 is made; what they are does not matter here.
    model.model.visual.rotary_pos_emb.to_empty(device="cpu")
    vision: Any = settings.vision_config
    config = System2Config(
        schema_version=1,
        qwen={},
        image_height=height,
        image_width=width,
        patch_size=vision.patch_size,
        merge=vision.spatial_merge_size,
        image_start=1,
        max_text_tokens=sizes.max_text_tokens,
        hidden_size=settings.text_config.hidden_size,
        hidden_state=sizes.hidden_state,
        convolutional_stem=sizes.convolutional_stem,
        key_points=0,
        first_action_id=0,
        action_tokens=everything.tokenizer.vocabulary,
    )
    return System2(config, model).to("meta").train()


def _qwen_config(sizes: params.System2, rows: int, grid: tuple[int, int]) -> Qwen3VLConfig:
    if sizes.source == params.FROM_SIZES:
        names = ("pad", "image", "video", "vision_start", "vision_end")
        return qwen.tiny_config(sizes, rows, grid, {name: index for index, name in enumerate(names)})
    if Path(sizes.source).is_dir():
        settings = Qwen3VLConfig.from_pretrained(sizes.source, local_files_only=True)
        settings.text_config.vocab_size = rows
        return settings
    return Qwen3VLConfig(
        text_config={**_QWEN3_VL_2B_TEXT, "vocab_size": rows},
        vision_config=_QWEN3_VL_2B_VISION,
        tie_word_embeddings=True,
    )


def _text_tokens(own: params.Tokenizer) -> int:
    """Tokens of the text tokenizer once FAST's are added."""
    if own.text == text.BUILT_IN or Path(own.text).exists():
        tokenizer = text.make_text_tokenizer(own.text)
        text.add_action_tokens(tokenizer, own.vocabulary)
        return tokenizer.get_vocab_size(with_added_tokens=True)
    return QWEN_TOKENS + own.vocabulary + 2
