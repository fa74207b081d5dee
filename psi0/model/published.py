"""Weights of the published action head (`ActionTransformerModel`) under our names, and back.

The published last block computes observation queries whose result nobody reads, and two constants are stored beside
the weights; ours has neither. `Published.kept` holds them, so that the published file can be written again bit for bit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from psi0.errors import Psi0Error
from psi0.files import read_json, write_bytes
from psi0.model.config import System1Config
from psi0.model.system1 import ActionExpert, read_tensors, sinusoid

KEPT = "published_only.safetensors"
"""Beside `system1.safetensors`: what the published file holds and ours does not."""
POSITIONS, FREQUENCIES = "obs_proj.enc_pos.pe", "time_ins_embed.w"
_POSITION_ROWS = 5000

_FIXED = {
    "time.layers.0": "time_ins_embed.out_net.0",
    "time.layers.2": "time_ins_embed.out_net.2",
    "context_in": "obs_proj.views_proj",
    "state_in": "obs_proj._obs_proc.1",
    "action_in": "action_proj_in.ac_proj.0",
    "action_widen": "action_proj_in.ac_proj.2",
    "out": "action_proj_out.linear",
    "out_modulation": "action_proj_out.adaLN_modulation.1",
}
_STREAMS: dict[str, dict[str, tuple[str, ...]]] = {
    "action": {
        "modulation": ("norm1_act.linear",),
        "project": ("attn.to_k", "attn.to_v", "attn.to_q"),
        "out": ("attn.to_out.0",),
        "feed_forward.up": ("ff_act.net.0.proj",),
        "feed_forward.down": ("ff_act.net.2",),
    },
    "observation": {
        "modulation": ("norm1_obs.linear",),
        "project": ("attn.add_k_proj", "attn.add_v_proj", "attn.add_q_proj"),
        "out": ("attn.to_add_out",),
        "feed_forward.up": ("ff_obs.net.0.proj",),
        "feed_forward.down": ("ff_obs.net.2",),
    },
}


class PublishedSizes(BaseModel):
    """The published head's own configuration, as far as it shapes the network; other keys are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    action_dim: int = Field(gt=0, description="Numbers per action")
    odim: int = Field(gt=0, description="Numbers of the state token")
    action_pred_horizon: int = Field(gt=0, description="Actions per chunk")
    view_feature_dim: int = Field(gt=0, description="Width of the hidden states it is given")
    action_hidden_dim: int = Field(default=1536, gt=0, description="Width of both streams")
    action_num_blocks: int = Field(default=6, gt=0, description="Joint attention blocks")
    num_attention_heads: int = Field(default=24, gt=0, description="Attention heads")

    def ours(self) -> System1Config:
        """The same sizes under our names; dropouts are the published ones."""
        return System1Config(
            schema_version=1,
            action_size=self.action_dim,
            state_size=self.odim,
            horizon=self.action_pred_horizon,
            context_size=self.view_feature_dim,
            hidden_size=self.action_hidden_dim,
            blocks=self.action_num_blocks,
            heads=self.num_attention_heads,
        )


@dataclass(frozen=True)
class Published:
    """A published head as ours.

    Attributes:
        expert: the network, fp32.
        kept: what the published file holds besides, by name.
        types: storage type of every published tensor that is not float32, by name.
    """

    expert: ActionExpert
    kept: dict[str, Tensor]
    types: dict[str, str]


def read_sizes(file: Path) -> PublishedSizes:
    """Sizes from a JSON file: the constructor's arguments, or an object that holds them under `config`.

    Raises:
        Psi0Error: no JSON, or a size that is missing or no positive whole number.
    """
    content = read_json(file)
    inner: Any = content.get("config", content) if isinstance(content, dict) else content
    try:
        return PublishedSizes.model_validate(inner)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Psi0Error(f"{file}: {problems}; the published head's constructor arguments are needed") from None


def published_names(ours: str) -> list[str]:
    """The published names of one of our parameters; their rows, one below the other, are ours."""
    if ours == "action_position":
        return ["action_proj_in.dec_pos"]
    layer, kind = ours.rsplit(".", 1)
    if layer in _FIXED:
        return [f"{_FIXED[layer]}.{kind}"]
    _, index, stream, part = layer.split(".", 3)
    return [f"transformer_blocks.{index}.{name}.{kind}" for name in _STREAMS[stream][part]]


def published_shapes(config: System1Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the published file for these sizes.

    Raises:
        Psi0Error: an expert without joint attention, which the publication has no layout for.
    """
    if config.attention != "joint":
        raise Psi0Error(
            f"system1.attention is {config.attention}, and the published layout holds joint attention alone;"
            " set it to joint and train stages 2 and 3 again"
        )
    with torch.device("meta"):
        expert = ActionExpert(config)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in expert.named_parameters():
        theirs = published_names(name)
        rows = config.hidden_size if len(theirs) > 1 else parameter.shape[0]
        shapes |= dict.fromkeys(theirs, (rows, *parameter.shape[1:]))
    return shapes | {
        FREQUENCIES: tuple(expert.time.rates.shape),
        POSITIONS: (_POSITION_ROWS, 1, config.hidden_size),
    }


def published_parameters(config: System1Config) -> int:
    """Numbers that the publication counts as parameters: everything in its file, constants included."""
    return sum(torch.Size(shape).numel() for shape in published_shapes(config).values())


def from_published(state: Mapping[str, Tensor], config: System1Config, source: str = "weights") -> Published:
    """An expert with published weights.

    Args:
        state: the published head's state dict.
        config: its sizes.
        source: file name for messages.

    Raises:
        Psi0Error: names are missing or unknown, or shapes do not fit; all of them are listed.
    """
    wanted = published_shapes(config)
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - state.keys())]
    problems += [f"{name} is unknown" for name in sorted(state.keys() - wanted.keys())]
    problems += [
        f"{name} is {tuple(state[name].shape)} instead of {wanted[name]}"
        for name in sorted(wanted.keys() & state.keys())
        if tuple(state[name].shape) != wanted[name]
    ]
    if problems:
        raise Psi0Error(f"{source} is not the published action head of these sizes: " + "; ".join(problems))
    expert = ActionExpert(config)
    kept = {name: state[name].clone() for name in (FREQUENCIES, POSITIONS)}
    with torch.no_grad():
        for name, parameter in expert.named_parameters():
            theirs = published_names(name)
            rows = torch.cat([state[one] for one in theirs])
            # The last block's observation stream ends before the queries.
            parameter.copy_(rows[: len(parameter)])
            if len(rows) > len(parameter):
                kept[theirs[-1]] = state[theirs[-1]].clone()
    types = {name: str(value.dtype).removeprefix("torch.") for name, value in state.items()}
    return Published(expert, kept, {name: kind for name, kind in types.items() if kind != "float32"})


def to_published(expert: ActionExpert, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict of an expert: our rows under their names, then what `kept` holds."""
    shapes = published_shapes(expert.config)
    state = dict(kept)
    for name, parameter in expert.named_parameters():
        start = 0
        for theirs in published_names(name):
            rows = shapes[theirs][0]
            if start < len(parameter):
                state[theirs] = parameter.detach()[start : start + rows].contiguous()
            start += rows
    return state


def computed_constants(expert: ActionExpert) -> dict[str, Tensor]:
    """`kept` of an expert that never was a published file: the two constants, and queries of zeros nobody reads."""
    size = expert.config.hidden_size
    last = f"transformer_blocks.{expert.config.blocks - 1}.attn.add_q_proj"
    return {
        FREQUENCIES: expert.time.rates.clone(),
        POSITIONS: sinusoid(torch.arange(_POSITION_ROWS), size)[:, None].contiguous(),
        f"{last}.weight": torch.zeros(size, size),
        f"{last}.bias": torch.zeros(size),
    }


def read_published(weights: Path, sizes: Path) -> Published:
    """Read a published head. Raises `Psi0Error` for an unreadable file, and as `from_published` does."""
    config = read_sizes(sizes).ours()
    return from_published(read_tensors(weights), config, str(weights))


def save_imported(folder: Path, published: Published) -> None:
    """Write an imported head as a folder that `ActionExpert.load` and `save_published` read."""
    published.expert.save(folder)
    save_file(published.kept, folder / KEPT, metadata={"types": json.dumps(published.types, sort_keys=True)})


def save_published(folder: Path, file: Path) -> None:
    """Write the expert of a folder as a published file; bit for bit the one it was imported from, if it was.

    Raises:
        Psi0Error: the folder holds no expert, one that does not fit its configuration, or one of cross-attention.
    """
    expert = ActionExpert.load(folder)
    kept, types = computed_constants(expert), {}
    if (folder / KEPT).is_file():
        kept = read_tensors(folder / KEPT)
        with safe_open(folder / KEPT, "pt") as opened:
            types = json.loads((opened.metadata() or {}).get("types", "{}"))
    state = to_published(expert, kept)
    for name, kind in types.items():
        state[name] = state[name].to(getattr(torch, kind))
    write_bytes(file, save(state))
