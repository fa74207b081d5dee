"""Plain behaviour cloning: image and state to a chunk of actions by regression, one forward pass."""

import torch
from torch import Tensor, nn

from psi0.baselines.config import BaselineConfig
from psi0.baselines.images import ImageEncoder, grid
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE

_CHANNELS = 32
"""Channels per place of the feature map that the last layers see."""
_INNER = 2
"""Width of the hidden layers in units of `hidden_size`."""


class BehaviourCloning(nn.Module):
    """Feature map, flattened where it lies, and state, through two hidden layers."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        size, inner = config.settings.hidden_size, _INNER * config.settings.hidden_size
        rows, columns = grid(config.camera_height, config.camera_width)
        self.horizon = config.horizon
        self.images = ImageEncoder(size)
        self.narrow = nn.Conv2d(size, _CHANNELS, 1)
        self.head = nn.Sequential(
            nn.Linear(_CHANNELS * rows * columns + STATE_SIZE, inner),
            nn.SiLU(),
            nn.Linear(inner, inner),
            nn.SiLU(),
            nn.Linear(inner, self.horizon * ACTION_SIZE),
        )

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Normalised actions `(batch, horizon, 36)` from images uint8 `(batch, h, w, 3)`, state `(batch, 32)`."""
        seen = self.narrow(self.images(images)).flatten(1)
        return self.head(torch.cat([seen, state], dim=1)).view(-1, self.horizon, ACTION_SIZE)
