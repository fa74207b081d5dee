"""The image encoder that ACT and behaviour cloning share: strided convolutions, one feature vector per 16 pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.model.system1 import sinusoid

STRIDES = 4
"""Convolutions of stride 2: the feature map is 16 times smaller than the image, rounded up."""
_FIRST_CHANNELS = (32, 64, 96)
_GROUPS = 4


def grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the feature map of an image."""
    unit = 2**STRIDES
    return -(-height // unit), -(-width // unit)


class Stage(nn.Module):
    """Half the resolution, then one residual convolution."""

    def __init__(self, channels_in: int, channels: int, kernel: int, residual: bool) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(channels_in, channels, kernel, stride=2, padding=kernel // 2)
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1) if residual else None
        self.refine_norm = nn.GroupNorm(_GROUPS, channels) if residual else None

    def forward(self, features: Tensor) -> Tensor:
        """`(batch, channels_in, h, w)` to `(batch, channels, ceil(h / 2), ceil(w / 2))`."""
        features = functional.silu(self.norm(self.shrink(features)))
        if self.refine is None or self.refine_norm is None:
            return features
        return features + functional.silu(self.refine_norm(self.refine(features)))


class ImageEncoder(nn.Module):
    """uint8 images `(batch, height, width, 3)` of any size to a feature map `(batch, size, rows, columns)`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        channels = (3, *_FIRST_CHANNELS, size)
        self.stages = nn.Sequential(
            *(
                Stage(channels[i], channels[i + 1], kernel=5 if i == 0 else 3, residual=i >= STRIDES - 2)
                for i in range(STRIDES)
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        """Encode images; pixels are scaled to [-1, 1] first."""
        return self.stages(images.permute(0, 3, 1, 2).float() / 127.5 - 1.0)


def positions(rows: int, columns: int, size: int) -> Tensor:
    """Sinusoidal positions `(rows * columns, size)`: half of the numbers tell the row, half the column."""
    vertical = sinusoid(torch.arange(rows), size // 2)[:, None].expand(rows, columns, -1)
    horizontal = sinusoid(torch.arange(columns), size // 2)[None].expand(rows, columns, -1)
    return torch.cat([vertical, horizontal], dim=-1).reshape(rows * columns, size)
