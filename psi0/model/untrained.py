"""The networks that parameters describe, with random weights: for counting and timing, before anything is trained.

Neither a tokenizer nor the published weights are needed: where parameters name Qwen3-VL-2B on the hub, its published
sizes stand here.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3VLConfig

from psi0 import params
from psi0.model import qwen, text
from psi0.model.config import System1Config, System2Config
from psi0.model.image import TEMPORAL_PATCH, model_size
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2

QWEN_TOKENS = 151_669
"""Size of Qwen3-VL's stock text tokenizer; the published code adds FAST's tokens and two that mark their ends."""

# Qwen3-VL-2B-Instruct, published configuration; 2,131,333,120 parameters once the vocabulary is extended for FAST.
_QWEN3_VL_2B_TEXT = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262_144,
    "tie_word_embeddings": True,
}
_QWEN3_VL_2B_VISION: dict[str, Any] = {
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


def untrained_system2(everything: params.Params, device: str = "cpu") -> System2:
    """The backbone that parameters describe, random weights; on the device `meta` it takes no memory."""
    sizes, camera = everything.system2, everything.camera
    tokens = _text_tokens(everything.tokenizer)
    rows = qwen.padded_vocabulary(tokens)
    height, width = model_size(camera.height, camera.width, sizes.patch_size, sizes.merge)
    grid = (height // sizes.patch_size, width // sizes.patch_size)
    settings = _qwen_config(sizes, rows, grid)
    with torch.device(device):
        model = qwen.build(settings, stem=sizes.convolutional_stem, grid=grid)
    if device == "meta":
        # System-2 computes constants from it, whatever it holds.
        model.model.visual.rotary_pos_emb.to_empty(device="cpu")
    vision: Any = settings.vision_config
    language: Any = settings.text_config
    config = System2Config(
        schema_version=1,
        qwen={},
        image_height=height,
        image_width=width,
        patch_size=vision.patch_size,
        merge=vision.spatial_merge_size,
        image_start=1,
        max_text_tokens=sizes.max_text_tokens,
        hidden_size=language.hidden_size,
        hidden_state=sizes.hidden_state,
        convolutional_stem=sizes.convolutional_stem,
        key_points=0,
        first_action_id=0,
        action_tokens=everything.tokenizer.vocabulary,
    )
    return System2(config, model).to(device)


def untrained_expert(everything: params.Params, chunk: int, context_size: int, device: str = "cpu") -> ActionExpert:
    """The action expert that parameters describe, for chunks of `chunk` actions; random weights."""
    sizes = everything.system1
    config = System1Config(
        schema_version=1,
        horizon=chunk,
        context_size=context_size,
        hidden_size=sizes.hidden_size,
        blocks=sizes.blocks,
        heads=sizes.heads,
        attention=sizes.attention,
    )
    with torch.device(device):
        return ActionExpert(config)


def _qwen_config(sizes: params.System2, rows: int, grid: tuple[int, int]) -> Qwen3VLConfig:
    if sizes.source == params.FROM_SIZES:
        names = ("pad", "image", "video", "vision_start", "vision_end")
        return qwen.tiny_config(sizes, rows, grid, {name: index for index, name in enumerate(names)})
    if Path(sizes.source).is_dir():
        settings: Any = Qwen3VLConfig.from_pretrained(sizes.source, local_files_only=True)
        settings.text_config.vocab_size = rows
        return settings
    return qwen3_vl_2b(rows)


def qwen3_vl_2b(rows: int, text_layers: int = 28, vision_layers: int = 24) -> Qwen3VLConfig:
    """Qwen3-VL-2B's published sizes, with so many rows in its token table; fewer layers make a shallow one."""
    deepstack = [layer for layer in _QWEN3_VL_2B_VISION["deepstack_visual_indexes"] if layer < vision_layers] or [0]
    depth = {"depth": vision_layers, "deepstack_visual_indexes": deepstack}
    return Qwen3VLConfig(
        text_config={**_QWEN3_VL_2B_TEXT, "num_hidden_layers": text_layers, "vocab_size": rows},
        vision_config={**_QWEN3_VL_2B_VISION, **depth},
        tie_word_embeddings=True,
    )


def _text_tokens(own: params.Tokenizer) -> int:
    """Tokens of the text tokenizer once FAST's are added."""
    if own.text == text.BUILT_IN or Path(own.text).exists():
        tokenizer = text.make_text_tokenizer(own.text)
        text.add_action_tokens(tokenizer, own.vocabulary)
        return tokenizer.get_vocab_size(with_added_tokens=True)
    return QWEN_TOKENS + own.vocabulary + 2
