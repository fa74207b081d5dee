"""System-2 as modules of static shape, one observation at a time: what becomes `s2_vision` and `s2_language`.

System-1's graphs are `psi0.model.planned_field` and `psi0.model.guided_field`. The sampler's loop stays on the host,
because an unrolled graph repeats every weight. Inputs and outputs are named in `psi0.export.interface`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.model.qwen import ConvolutionalStem
from psi0.model.system2 import System2


class LinearPatches(nn.Module):
    """Qwen's patch projection as a matrix product: a convolution whose kernel is its stride and its whole input."""

    def __init__(self, projection: nn.Conv3d) -> None:
        super().__init__()
        assert projection.bias is not None
        self.weight = nn.Parameter(projection.weight.detach().flatten(1))
        self.bias = nn.Parameter(projection.bias.detach())

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `(patches, numbers)` to `(patches, hidden)`."""
        return functional.linear(hidden_states, self.weight, self.bias)


class VisionGraph(nn.Module):
    """Patches `(patches, numbers)` -> image tokens `(1, n, hidden)` and deepstack features `(layers, 1, n, hidden)`."""

    def __init__(self, system2: System2) -> None:
        super().__init__()
        self.system2 = system2
        visual = system2.qwen.model.visual
        if not isinstance(visual.patch_embed, ConvolutionalStem):
            visual.patch_embed = LinearPatches(visual.patch_embed.proj)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Look at one image."""
        image_tokens, deepstack = self.system2.vision(patches)
        return image_tokens, torch.stack(deepstack)


class LanguageGraph(nn.Module):
    """A prompt of static length and its image's tokens -> context for System-1, its mask, key points if any.

    Masks are float32, 1 where a token counts, so that every runtime can feed and read them.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, system2: System2) -> None:
        super().__init__()
        self.system2 = system2
        cosine, sine = system2.rotation(system2.config.image_tokens + system2.config.max_text_tokens)
        self.register_buffer("cosine", cosine)
        self.register_buffer("sine", sine)

    def forward(
        self, text_ids: Tensor, text_mask: Tensor, image_tokens: Tensor, deepstack: Tensor
    ) -> tuple[Tensor, ...]:
        """Read one prompt `(1, length)` together with its image."""
        hidden = self.system2.language(
            text_ids, image_tokens, list(deepstack.unbind(0)), rotation=(self.cosine, self.sine)
        )
        seen = self.system2.with_key_points(hidden, text_mask > 0.5)
        mask = seen.mask.to(hidden.dtype)
        return (seen.hidden, mask) if seen.key_points is None else (seen.hidden, mask, seen.key_points)
