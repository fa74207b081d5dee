"""System-1: the published MM-DiT action expert (`ActionTransformerModel` of the official code, layer for layer).

Two streams with separate weights, action tokens and observation tokens, attend jointly; flow time modulates both.
Initialisation is the published one: default linear layers, no zero-initialised modulation. With `attention: cross` the
blocks are those of a plain DiT (`psi0.model.cross_block`); all around them is the same.
"""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from psi0 import params
from psi0.errors import Psi0Error
from psi0.model.config import System1Config, read_config, write_config
from psi0.model.cross_block import CrossBlock
from psi0.model.feed_forward import FeedForward
from psi0.model.modulation import BlockModulation, modulated, per_action

TIME_FEATURES = 256
TIME_SCALE = 1000.0
"""The published time input is the noise level times 1000 (diffusers' train timesteps)."""
WEIGHTS, CONFIG = "system1.safetensors", "system1.json"


def sinusoid(positions: Tensor, size: int) -> Tensor:
    """Interleaved sine and cosine features `(n, size)` of positions `(n,)`, as in "Attention Is All You Need"."""
    rates = torch.exp(torch.arange(0, size, 2, device=positions.device) * (-math.log(10000.0) / size))
    angles = positions[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class TimeEmbedding(nn.Module):
    """Noise level `(...)` in [0, 1] -> `(..., hidden)`."""

    rates: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        half = TIME_FEATURES // 2
        rates = torch.exp(torch.arange(half) * (-math.log(10000.0) / (half - 1)))
        self.register_buffer("rates", rates, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(TIME_FEATURES, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, time: Tensor) -> Tensor:
        """Embed noise levels."""
        angles = time[..., None] * TIME_SCALE * self.rates
        return self.layers(torch.cat([angles.cos(), angles.sin()], dim=-1))


class Stream(nn.Module):
    """What one stream owns in a block: modulation, projections into and out of the joint attention, MLP.

    With `context_only` the stream gives keys and values but is not updated (the last block's observations).
    """

    def __init__(self, hidden_size: int, heads: int, context_only: bool = False) -> None:
        super().__init__()
        self.heads, self.context_only = heads, context_only
        self.modulation = nn.Linear(hidden_size, (2 if context_only else 6) * hidden_size)
        # Keys, values and queries from one product: three times the work per call, a third of the calls.
        self.project = nn.Linear(hidden_size, (2 if context_only else 3) * hidden_size)
        if not context_only:
            self.out = nn.Linear(hidden_size, hidden_size)
            self.feed_forward = FeedForward(hidden_size)

    def modulate(self, time: Tensor, rows: Tensor | None = None) -> tuple[Tensor, ...]:
        """Shift, gain, gate of attention, then of the MLP; shift and gain alone if `context_only`.

        Args:
            time: activated time embedding `(batch, 1 or tokens, hidden)`.
            rows: see `per_action`.
        """
        chunks = per_action(self.modulation(time), rows).chunk(2 if self.context_only else 6, dim=-1)
        if self.context_only:
            # The published last block stores scale before shift (AdaLayerNormContinuous), the others shift first.
            scale, shift = chunks
            return shift, 1 + scale
        shift, scale, gate, inner_shift, inner_scale, inner_gate = chunks
        return shift, 1 + scale, gate, inner_shift, 1 + inner_scale, inner_gate

    def attend(self, tokens: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """Keys, values and, unless `context_only`, queries beside each other: `(batch, tokens, 2 or 3 hidden)`."""
        return self.project(modulated(tokens, modulation[0], modulation[1]))

    def update(self, tokens: Tensor, attended: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """Add what attention and the MLP found to the tokens `(batch, tokens, hidden)`."""
        tokens = torch.addcmul(tokens, modulation[2], self.out(attended))
        return torch.addcmul(tokens, modulation[5], self.feed_forward(modulated(tokens, modulation[3], modulation[4])))


class Block(nn.Module):
    """One joint attention block."""

    def __init__(self, hidden_size: int, heads: int, last: bool) -> None:
        super().__init__()
        self.action = Stream(hidden_size, heads)
        self.observation = Stream(hidden_size, heads, context_only=last)

    def modulate(self, action_time: Tensor, observation_time: Tensor, rows: Tensor | None) -> BlockModulation:
        """What the noise level does to both streams, from activated time embeddings `(batch, 1 or tokens, hidden)`."""
        return self.action.modulate(action_time, rows), self.observation.modulate(observation_time)

    def forward(
        self, actions: Tensor, observations: Tensor, modulation: BlockModulation, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Update both streams; `mask` is additive, `(batch, 1, 1, actions + observations)`."""
        action_parts, parts = modulation
        own, other = self.action.attend(actions, action_parts), self.observation.attend(observations, parts)
        if self.observation.context_only:
            own, query = own.split([other.shape[-1], own.shape[-1] - other.shape[-1]], dim=-1)
            key, value = self._by_head(torch.cat([own, other], dim=1), 2)
            (query,) = self._by_head(query, 1)
        else:
            key, value, query = self._by_head(torch.cat([own, other], dim=1), 3)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = attended.transpose(1, 2).flatten(2)
        if self.observation.context_only:
            return self.action.update(actions, attended, action_parts), observations
        for_actions, for_observations = attended.split([actions.shape[1], observations.shape[1]], dim=1)
        return (
            self.action.update(actions, for_actions, action_parts),
            self.observation.update(observations, for_observations, parts),
        )

    def _by_head(self, joint: Tensor, parts: int) -> list[Tensor]:
        """Of `(batch, tokens, parts hidden)` each part as `(batch, heads, tokens, size)`."""
        split = joint.view(*joint.shape[:2], parts, self.action.heads, -1)
        return list(split.permute(2, 0, 3, 1, 4).unbind(0))


@dataclass(frozen=True)
class Modulation:
    """All that a noise level decides: shifts, gains and gates per block, then shift and scale of the output."""

    blocks: tuple[BlockModulation, ...]
    out: tuple[Tensor, Tensor]

    def at(self, index: int) -> "Modulation":
        """The modulation of one entry of the first axis, for any batch."""
        one = slice(index, index + 1)
        blocks = tuple((tuple(a[one] for a in action), tuple(o[one] for o in seen)) for action, seen in self.blocks)
        return Modulation(blocks, (self.out[0][one], self.out[1][one]))


class ActionExpert(nn.Module):
    """Predicts the velocity (noise minus action) of a noisy action chunk, given hidden states and the state."""

    def __init__(self, config: System1Config) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        """Recompute each block's activations in the backward pass to save memory."""
        size = config.hidden_size
        if size % config.heads:
            raise Psi0Error(f"system1.hidden_size {size} is not a multiple of system1.heads {config.heads}")
        self.time = TimeEmbedding(size)
        self.context_in = nn.Linear(config.context_size, size)
        self.state_in = nn.Linear(config.state_size, size)
        self.action_in = nn.Linear(config.action_size, config.action_size)
        self.action_widen = nn.Linear(config.action_size, size)
        self.action_position = nn.Parameter(torch.empty(config.horizon, size))
        nn.init.xavier_uniform_(self.action_position)
        last = config.blocks - 1
        self.blocks = nn.ModuleList(
            CrossBlock(size, config.heads) if config.attention == "cross" else Block(size, config.heads, index == last)
            for index in range(config.blocks)
        )
        self.out_modulation = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, config.action_size)

    @classmethod
    def create(cls, sizes: params.System1, *, horizon: int, context_size: int, seed: int) -> "ActionExpert":
        """A freshly initialised expert of the sizes in `params.yaml` (block `system1`)."""
        config = System1Config(
            schema_version=1,
            horizon=horizon,
            context_size=context_size,
            hidden_size=sizes.hidden_size,
            blocks=sizes.blocks,
            heads=sizes.heads,
            attention=sizes.attention,
            state_dropout=sizes.state_dropout,
            token_dropout=sizes.token_dropout,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def observe(self, context: Tensor, state: Tensor) -> Tensor:
        """Observation tokens `(batch, n + 1, hidden)`: hidden states, then the state, with sinusoidal positions."""
        state = functional.pad(state, (0, self.config.state_size - state.shape[-1]))
        state = functional.dropout(state, self.config.state_dropout, self.training)
        tokens = torch.cat([self.context_in(context), self.state_in(state)[:, None]], dim=1)
        tokens = functional.dropout(tokens, self.config.token_dropout, self.training)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return tokens + sinusoid(positions, tokens.shape[2])

    def velocity(
        self,
        actions: Tensor,
        time: Tensor,
        context: Tensor,
        context_mask: Tensor | None,
        state: Tensor,
        late: Tensor | None = None,
    ) -> Tensor:
        """Velocity `(batch, horizon, 36)`.

        Args:
            actions: noisy normalised actions `(batch, horizon, 36)`.
            time: noise level in [0, 1], 1 being noise: `(batch,)`, or `(batch, horizon)` with 0 on clean prefix steps.
            context: System-2's hidden states `(batch, n, context_size)`.
            context_mask: bool `(batch, n)`, False on padding; None when all count.
            state: normalised state `(batch, <= state_size)`.
            late: with one level per sample, bool `(batch, horizon)`: False on clean prefix steps, whose level is 0.
        """
        mask = None if context_mask is None else self.attention_mask(context_mask, actions.dtype)
        return self(actions, self.observe(context, state), self.modulate(time, late), mask)

    def modulate(self, time: Tensor, late: Tensor | None = None) -> Modulation:
        """All that depends on noise levels alone; `time` and `late` as `velocity` takes them.

        Chunks with clean prefixes have one level each and level 0 in common: one modulation per sample is computed and
        one more, not one per action.
        """
        levels, rows = time[:, None] if time.ndim == 1 else time, None
        if late is not None:
            rows = torch.where(late, torch.arange(len(late), device=late.device)[:, None], len(late))
            levels = functional.pad(levels, (0, 0, 0, 1))
        action_time = functional.silu(self.time(levels))
        observation_time = action_time[: len(time), -1:]
        blocks = tuple(
            block.modulate(action_time, observation_time, rows)
            for block in self.blocks
            if isinstance(block, Block | CrossBlock)
        )
        shift, scale = per_action(self.out_modulation(action_time), rows).chunk(2, dim=-1)
        return Modulation(blocks, (shift, scale))

    def forward(self, actions: Tensor, observations: Tensor, modulation: Modulation, mask: Tensor | None) -> Tensor:
        """Velocity `(batch, horizon, 36)` from what `observe`, `modulate` and `attention_mask` gave.

        A sampler calls this once per step, and the others once per chunk.
        """
        widened = self.action_widen(functional.gelu(self.action_in(actions), approximate="tanh"))
        tokens = widened + self.action_position
        for block, own in zip(self.blocks, modulation.blocks, strict=True):
            if self.checkpointing and torch.is_grad_enabled():
                tokens, observations = checkpoint(block, tokens, observations, own, mask, use_reentrant=False)
            else:
                tokens, observations = block(tokens, observations, own, mask)
        shift, scale = modulation.out
        return self.out(torch.addcmul(shift, tokens, scale))

    def attention_mask(self, context_mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Additive mask `(batch, 1, 1, horizon + n + 1)`: actions and the state are always seen. Finite for fp16."""
        hidden = (~context_mask).to(dtype) * -3e4
        mask = functional.pad(hidden, (self.config.horizon, 1))
        return mask[:, None, None, :]

    def save(self, folder: Path) -> None:
        """Write `system1.safetensors` and `system1.json` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)
        write_config(folder / CONFIG, self.config)

    @classmethod
    def load(cls, folder: Path) -> "ActionExpert":
        """Read what `save` wrote. Raises `Psi0Error` when a file is missing or weights and sizes do not fit."""
        expert = cls(read_config(folder / CONFIG, System1Config))
        load_weights(expert, folder / WEIGHTS)
        return expert


def read_tensors(file: Path, where: str = "check its path", mend: str = "fetch it again") -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises `Psi0Error`, with these remedies, when it is missing or broken."""
    if not file.is_file():
        raise Psi0Error(f"{file} is missing; {where}")
    try:
        return load_file(file)
    except Exception as error:
        raise Psi0Error(f"{file} is not a safetensors file ({error}); it may be truncated: {mend}") from None


def load_weights(module: nn.Module, file: Path, absent: AbstractSet[str] = frozenset()) -> None:
    """Load a safetensors file into a module, every name but those in `absent`.

    Raises:
        Psi0Error: the file is missing, broken, or its names and shapes are not the module's.
    """
    state = read_tensors(file, "run the stage that makes it (`dvc repro`) or `dvc pull`", "rebuild it")
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise Psi0Error(f"{file} does not fit its configuration ({error}); rebuild it") from None
    wrong = sorted((set(result.missing_keys) - absent) | set(result.unexpected_keys))
    if wrong:
        raise Psi0Error(f"{file} does not fit its configuration (names {', '.join(wrong[:3])}...); rebuild it")
