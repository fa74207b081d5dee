"""LoRA (arXiv 2106.09685): System-2 learns through low-rank updates of its linear layers, and leaves as a plain one.

A layer's output gets `scale * up(down(x))` added; `up` begins at zero, so that nothing changes before the first step.
At the end the product is added to the weight, so that what is written and exported knows nothing of it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.model.qwen import ConvolutionalStem
from psi0.model.system2 import System2

DOWN, UP = "low_rank_down", "low_rank_up"
_KINDS: "dict[type[nn.Linear], type[LowRank]]" = {}


class LowRank(nn.Linear):
    """A linear layer with a low-rank update beside its own, frozen weight. Made by `add_low_rank` alone."""

    low_rank_down: nn.Parameter
    low_rank_up: nn.Parameter
    low_rank_scale: float

    def forward(self, input: Tensor) -> Tensor:
        """Map `(..., in_features)` to `(..., out_features)`."""
        narrow = functional.linear(input, self.low_rank_down)
        return super().forward(input) + self.low_rank_scale * functional.linear(narrow, self.low_rank_up)


def _low_rank(layer: type[nn.Linear]) -> type[LowRank]:
    """`LowRank` over a kind of linear layer, such as one with bfloat16 products."""
    return _KINDS.setdefault(layer, type(f"LowRank{layer.__name__}", (LowRank, layer), {}))


def add_low_rank(system2: System2, rank: int, alpha: float, seed: int) -> None:
    """Give every linear layer inside the blocks of both towers an update of this rank, in place.

    Args:
        system2: all of Qwen's own weights are frozen; the key-point head stays as it is.
        rank: of the updates.
        alpha: scale times rank.
        seed: of the random half.
    """
    system2.qwen.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in _linear_layers(system2):
            weight = layer.weight
            down = nn.Parameter(torch.empty(rank, layer.in_features, device=weight.device))
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
            layer.register_parameter(DOWN, down)
            layer.register_parameter(UP, nn.Parameter(torch.zeros(layer.out_features, rank, device=weight.device)))
            layer.__class__ = _low_rank(type(layer))
            assert isinstance(layer, LowRank)
            layer.low_rank_scale = alpha / rank


def learn_new_parts(system2: System2) -> None:
    """Let learn what stage 1 adds to Qwen and no update can stand for: the rows of FAST tokens, the stem.

    The table of tokens is one tensor, so all its rows learn; so does the output layer.
    """
    model = system2.qwen
    parts = [model.get_input_embeddings(), model.get_output_embeddings()]
    if isinstance(model.model.visual.patch_embed, ConvolutionalStem):
        parts.append(model.model.visual.patch_embed)
    for part in parts:
        part.requires_grad_(True)


@torch.no_grad()
def merge_low_rank(system2: System2) -> None:
    """Add all updates to their weights and leave the stock layers, in place; nothing to do without updates."""
    for layer in system2.qwen.modules():
        if isinstance(layer, LowRank):
            layer.weight += layer.low_rank_scale * (layer.low_rank_up @ layer.low_rank_down)
            for name in (DOWN, UP, "low_rank_scale"):
                delattr(layer, name)
            layer.__class__ = type(layer).__bases__[1]


def _linear_layers(system2: System2) -> list[nn.Linear]:
    model = system2.qwen.model
    blocks = [*model.language_model.layers, *model.visual.blocks]
    return [layer for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear)]
