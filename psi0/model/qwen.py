"""transformers' Qwen3-VL, built small from `params.yaml` or loaded from a folder, with what one image size allows.

Every image of a policy has the same size, so vision attention runs as one batched product instead of one call per
image, and at tiny scale a convolutional stem takes the flattened patches in place of the linear patch projection.
"""

from itertools import pairwise
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextMLP,
    Qwen3VLVisionAttention,
    Qwen3VLVisionMLP,
    rotate_half,
)

from psi0 import params
from psi0.errors import Psi0Error
from psi0.model.feed_forward import gated_network, gelu_network, may_fuse
from psi0.model.image import TEMPORAL_PATCH
from psi0.model.linear import bfloat16_twin_of

STEM_CHANNELS = (32, 64)
"""Widths of the stem's inner layers; the last layer has the vision tower's width."""
VOCABULARY_MULTIPLE = 192
"""The published code pads the resized vocabulary to a multiple of this."""


def padded_vocabulary(tokens: int) -> int:
    """Rows of the embedding table for a number of tokens."""
    return -(-tokens // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def tiny_config(sizes: params.System2, vocabulary: int, grid: tuple[int, int], tokens: dict[str, int]) -> Qwen3VLConfig:
    """Qwen3-VL's architecture at the sizes of `params.yaml`, in the proportions of Qwen3-VL-2B.

    Args:
        sizes: block `system2`.
        vocabulary: rows of the embedding table.
        grid: rows and columns of patches in an image.
        tokens: ids of the control tokens: `pad`, `image`, `video`, `vision_start`, `vision_end`.
    """
    width, head = sizes.hidden_size, sizes.hidden_size // sizes.heads
    spatial = head // 2 * 5 // 16
    return Qwen3VLConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.key_value_heads,
            "head_dim": head,
            "max_position_embeddings": 4096,
            "pad_token_id": tokens["pad"],
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [head // 2 - 2 * spatial, spatial, spatial],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": sizes.vision_layers,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_heads": sizes.heads,
            "patch_size": sizes.patch_size,
            "temporal_patch_size": TEMPORAL_PATCH,
            "spatial_merge_size": sizes.merge,
            "out_hidden_size": width,
            "num_position_embeddings": max(grid) ** 2,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=tokens["image"],
        video_token_id=tokens["video"],
        vision_start_token_id=tokens["vision_start"],
        vision_end_token_id=tokens["vision_end"],
        tie_word_embeddings=True,
    )


def build(config: Qwen3VLConfig, *, stem: bool, grid: tuple[int, int], seed: int | None = None) -> Any:
    """A Qwen3-VL of these sizes with random weights, adapted to images of one size (`grid` of patches)."""
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
        return adapt(model, stem=stem, grid=grid)


def load_pretrained(source: str, *, download: bool, revision: str, rows: int) -> Any:
    """Qwen3-VL from a local folder or the local hub cache; fetched from the hub only when `download` is set.

    Its embedding table is extended to `rows`; new rows start at the mean of the old ones.

    Args:
        source: folder, or hub id.
        download: allow fetching.
        revision: commit, tag or branch of a hub id; a folder has none.
        rows: of the embedding table.

    Raises:
        Psi0Error: not there, broken, another kind of model, or weights that are missing or of another shape.
    """
    place: dict[str, Any] = {"local_files_only": not download, "revision": revision}
    try:
        settings, _ = Qwen3VLConfig.get_config_dict(source, **place)
        kind = settings.get("model_type")
        if kind != Qwen3VLConfig.model_type:
            raise Psi0Error(f"system2.source {source!r} is a model of type {kind!r}; give a Qwen3-VL")
        loaded: Any = Qwen3VLForConditionalGeneration.from_pretrained(
            source, **place, attn_implementation="sdpa", dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise Psi0Error(
            f"system2.source {source!r} cannot be loaded ({_first_line(error)}); give a folder with Qwen3-VL's"
            " config.json and whole safetensors, or set system2.download: true to fetch it from the hub"
        ) from None
    model, report = loaded
    wrong = sorted({*report["missing_keys"], *(str(name) for name in report["mismatched_keys"])})
    if wrong:
        raise Psi0Error(
            f"system2.source {source!r} lacks weights that fit {', '.join(wrong[:3])} ({len(wrong)} in all); they would"
            " stay random: give a whole Qwen3-VL"
        )
    sizes: Any = model.config.text_config
    old = sizes.vocab_size
    if rows > old:
        model.resize_token_embeddings(rows, mean_resizing=False)
        with torch.no_grad():
            for table in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
                table[old:] = table[:old].mean(dim=0)
    return model


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def adapt(model: Any, *, stem: bool, grid: tuple[int, int]) -> Any:
    """Give a stock model the batched vision attention and, if asked, the convolutional stem (in place)."""
    visual = model.model.visual
    for block in visual.blocks:
        block.attn.__class__ = BatchedVisionAttention
    if stem:
        config = visual.config
        visual.patch_embed = ConvolutionalStem(grid, config.patch_size, config.spatial_merge_size, config.hidden_size)
    return model


class BatchedVisionAttention(Qwen3VLVisionAttention):
    """Qwen3-VL's vision attention with the same weights, over images of equal size `(batch, patches, hidden)`."""

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        max_seqlen: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend within each image; `position_embeddings` are cosine and sine `(patches, head)`."""
        assert position_embeddings is not None
        shape = (*hidden_states.shape[:2], 3, self.num_heads, self.head_dim)
        query, key, value = self.qkv(hidden_states).view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        cosine, sine = position_embeddings
        query, key = (part * cosine + rotate_half(part) * sine for part in (query, key))
        attended = functional.scaled_dot_product_attention(query, key, value, scale=self.scaling)
        return self.proj(attended.transpose(1, 2).flatten(2))


@bfloat16_twin_of(Qwen3VLVisionMLP)
class Bfloat16VisionMLP(Qwen3VLVisionMLP):
    """Qwen3-VL's vision MLP with bfloat16 inner activations in training mode."""

    def forward(self, hidden_state: Tensor) -> Tensor:
        """Map `(..., hidden)` to `(..., hidden)`."""
        if may_fuse(self, self.linear_fc1):
            return gelu_network(hidden_state, self.linear_fc1, self.linear_fc2)
        return super().forward(hidden_state)


@bfloat16_twin_of(Qwen3VLTextMLP)
class Bfloat16TextMLP(Qwen3VLTextMLP):
    """Qwen3-VL's gated text MLP with bfloat16 inner activations in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., hidden)` to `(..., hidden)`."""
        if may_fuse(self, self.up_proj):
            return gated_network(x, self.gate_proj, self.up_proj, self.down_proj)
        return super().forward(x)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of `(batch, channels, height, width)`, cheap in channels-last memory."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every pixel on its own."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvolutionalStem(nn.Module):
    """Flattened patches -> image -> strided convolutions -> one token per patch, all in Qwen's patch order.

    What it sees is exactly what the linear patch projection would see; only neighbouring patches share an edge.
    The first convolution has stride 4, each further one stride 2.
    """

    def __init__(self, grid: tuple[int, int], patch_size: int, merge: int, hidden_size: int) -> None:
        super().__init__()
        if patch_size not in (8, 16):
            raise Psi0Error(f"system2.convolutional_stem needs a patch_size of 8 or 16, not {patch_size}")
        self.grid, self.patch_size, self.merge, self.hidden_size = grid, patch_size, merge, hidden_size
        widths = [*STEM_CHANNELS[: 1 if patch_size == 8 else 2], hidden_size]
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 6, stride=4, padding=1),
            ChannelNorm(widths[0]),
            nn.ReLU(),
        ]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), ChannelNorm(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `(batch * patches, 3 * 2 * patch_size**2)` to `(batch * patches, hidden)`."""
        merge, size, (rows, columns) = self.merge, self.patch_size, self.grid
        # In steps of at most six axes: TensorRT takes no more than eight.
        frame = hidden_states.view(-1, 3, TEMPORAL_PATCH, size * size)[:, :, 0]
        raster = frame.reshape(-1, columns // merge, merge, merge, 3 * size * size).transpose(1, 2)
        cut = raster.reshape(-1, rows, columns, 3, size, size).permute(0, 3, 1, 4, 2, 5)
        images = cut.reshape(-1, 3, rows * size, columns * size)
        features = self.layers(images.contiguous(memory_format=torch.channels_last))
        tokens = features.permute(0, 2, 3, 1).reshape(-1, merge, columns // merge, merge, self.hidden_size)
        return tokens.transpose(1, 2).reshape(-1, self.hidden_size)
