"""ACT: Action Chunking with Transformers (Zhao, Kumar, Levine and Finn, RSS 2023, arXiv:2304.13705, section IV).

A conditional variational autoencoder over action chunks. Its encoder, used in training alone, reads state and true
actions and tells their style as a Gaussian; its decoder, the policy, reads image, state and style, and answers learned
queries with one action each. Acting, the style is the prior's mean, zero. Other than published: a small convolutional
encoder in place of ResNet-18, and layers normalised before, not after, which learn without a long warm-up.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.baselines.config import BaselineConfig
from psi0.baselines.images import ImageEncoder, positions
from psi0.model.system1 import sinusoid
from psi0.params import Baselines
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE

_PREFIX = 2
"""Tokens of the policy's encoder before those of the image: style and state."""


class Attention(nn.Module):
    """Multi-head attention; positions count for what is asked and where, not for what is said."""

    def __init__(self, settings: Baselines) -> None:
        super().__init__()
        size = settings.hidden_size
        self.heads = settings.heads
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`(batch, n, size)`, `(batch, m, size)`, `(batch, m, size)` to `(batch, n, size)`."""
        parts = (self.query(query), self.key(key), self.value(value))
        split = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(*split)
        return self.out(attended.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention, attention to a memory where there is one, feed-forward; each residual, normalised before."""

    def __init__(self, settings: Baselines, reads_memory: bool = False) -> None:
        super().__init__()
        size = settings.hidden_size
        self.drop = nn.Dropout(settings.dropout)
        self.own_norm, self.own = nn.LayerNorm(size), Attention(settings)
        self.memory_norm = nn.LayerNorm(size) if reads_memory else None
        self.memory = Attention(settings) if reads_memory else None
        self.forward_norm = nn.LayerNorm(size)
        self.up, self.down = nn.Linear(size, settings.feed_forward), nn.Linear(settings.feed_forward, size)

    def forward(
        self, tokens: Tensor, places: Tensor, memory: Tensor | None = None, memory_places: Tensor | None = None
    ) -> Tensor:
        """Update tokens `(batch, n, size)` at positions `(n, size)`."""
        normed = self.own_norm(tokens)
        tokens = tokens + self.drop(self.own(normed + places, normed + places, normed))
        if self.memory is not None and self.memory_norm is not None:
            assert memory is not None and memory_places is not None
            query = self.memory_norm(tokens) + places
            tokens = tokens + self.drop(self.memory(query, memory + memory_places, memory))
        inner = self.drop(functional.relu(self.up(self.forward_norm(tokens))))
        return tokens + self.drop(self.down(inner))


class Encoder(nn.Module):
    """A stack of layers with a last normalisation."""

    def __init__(self, settings: Baselines) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.encoder_layers))
        self.norm = nn.LayerNorm(settings.hidden_size)

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Tokens `(batch, n, size)` at positions `(n, size)`, each having seen the others."""
        for layer in self.layers:
            tokens = layer(tokens, places)
        return self.norm(tokens)


class Style(nn.Module):
    """The CVAE's encoder: state and actions to mean and log variance of their style."""

    places: Tensor

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        settings = config.settings
        size = settings.hidden_size
        self.summary = nn.Parameter(0.02 * torch.randn(1, 1, size))
        self.state_in, self.action_in = nn.Linear(STATE_SIZE, size), nn.Linear(ACTION_SIZE, size)
        self.encoder = Encoder(settings)
        self.out = nn.Linear(size, 2 * settings.latent_size)
        self.register_buffer("places", sinusoid(torch.arange(config.horizon + 2), size), persistent=False)

    def forward(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each `(batch, latent_size)`, of chunks `(batch, horizon, 36)`."""
        first = torch.cat([self.summary.expand(len(state), -1, -1), self.state_in(state)[:, None]], dim=1)
        seen = self.encoder(torch.cat([first, self.action_in(actions)], dim=1), self.places)
        mean, log_variance = self.out(seen[:, 0]).chunk(2, dim=1)
        return mean, log_variance


class ActionChunkingTransformer(nn.Module):
    """ACT. `style` is the CVAE's encoder, all else its decoder: the policy."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        settings = config.settings
        size = settings.hidden_size
        self.latent_size = settings.latent_size
        self.style = Style(config)
        self.images = ImageEncoder(size)
        self.image_in = nn.Conv2d(size, size, 1)
        self.state_in, self.latent_in = nn.Linear(STATE_SIZE, size), nn.Linear(settings.latent_size, size)
        self.prefix_places = nn.Parameter(0.02 * torch.randn(_PREFIX, size))
        self.encoder = Encoder(settings)
        self.queries = nn.Parameter(torch.randn(config.horizon, size))
        self.decoder = nn.ModuleList(Layer(settings, reads_memory=True) for _ in range(settings.decoder_layers))
        self.norm = nn.LayerNorm(size)
        self.out = nn.Linear(size, ACTION_SIZE)

    def forward(self, images: Tensor, state: Tensor, latent: Tensor | None = None) -> Tensor:
        """Normalised actions `(batch, horizon, 36)`.

        Args:
            images: uint8 `(batch, h, w, 3)`.
            state: normalised `(batch, 32)`.
            latent: style `(batch, latent_size)`; None takes the prior's mean, as when acting.
        """
        if latent is None:
            latent = torch.zeros(len(state), self.latent_size, device=state.device)
        seen = self.image_in(self.images(images))
        rows, columns = seen.shape[2:]
        picture = positions(rows, columns, seen.shape[1]).to(seen.device)
        places = torch.cat([self.prefix_places, picture])
        prefix = torch.stack([self.latent_in(latent), self.state_in(state)], dim=1)
        memory = self.encoder(torch.cat([prefix, seen.flatten(2).transpose(1, 2)], dim=1), places)
        # As published, the queries are positions of tokens that begin as zeros.
        tokens = torch.zeros_like(self.queries).expand(len(state), -1, -1)
        for layer in self.decoder:
            tokens = layer(tokens, self.queries, memory, places)
        return self.out(self.norm(tokens))
