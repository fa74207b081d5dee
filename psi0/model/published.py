"""Weights of the published action head (`ActionTransformerModel`) under our names."""

import torch
from torch import Tensor

from psi0.errors import Psi0Error
from psi0.model.config import System1Config
from psi0.model.system1 import ActionExpert

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
_STREAMS: dict[str, dict[str, str | tuple[str, ...]]] = {
    "action": {
        "modulation": "norm1_act.linear",
        "project": ("attn.to_k", "attn.to_v", "attn.to_q"),
        "out": "attn.to_out.0",
        "feed_forward.up": "ff_act.net.0.proj",
        "feed_forward.down": "ff_act.net.2",
    },
    "observation": {
        "modulation": "norm1_obs.linear",
        "project": ("attn.add_k_proj", "attn.add_v_proj", "attn.add_q_proj"),
        "out": "attn.to_add_out",
        "feed_forward.up": "ff_obs.net.0.proj",
        "feed_forward.down": "ff_obs.net.2",
    },
}
UNUSED = ("time_ins_embed.w", "obs_proj.enc_pos.pe")
"""Published constants that ours computes: the frequencies of the time embedding and the table of positions."""


def published_names(ours: str) -> list[str]:
    """The published names of one of our parameters; their rows, one below the other, are ours."""
    if ours == "action_position":
        return ["action_proj_in.dec_pos"]
    layer, kind = ours.rsplit(".", 1)
    if layer in _FIXED:
        return [f"{_FIXED[layer]}.{kind}"]
    _, index, stream, part = layer.split(".", 3)
    theirs = _STREAMS[stream][part]
    layers = [theirs] if isinstance(theirs, str) else theirs
    return [f"transformer_blocks.{index}.{name}.{kind}" for name in layers]


def expert_from_published(state: dict[str, Tensor], *, heads: int) -> ActionExpert:
    """An expert with published weights; sizes are read from them.

    The published last block computes observation queries whose result nobody reads; ours leaves them out.

    Args:
        state: the published head's state dict.
        heads: attention heads, which no shape tells.

    Raises:
        Psi0Error: a name is missing.
    """
    try:
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
        hidden, context = state["obs_proj.views_proj.weight"].shape
        config = System1Config(
            schema_version=1,
            action_size=state["action_proj_out.linear.weight"].shape[0],
            state_size=state["obs_proj._obs_proc.1.weight"].shape[1],
            horizon=state["action_proj_in.dec_pos"].shape[0],
            context_size=context,
            hidden_size=hidden,
            blocks=blocks,
            heads=heads,
        )
        expert = ActionExpert(config)
        with torch.no_grad():
            for name, parameter in expert.named_parameters():
                rows = torch.cat([state[theirs] for theirs in published_names(name)])
                # The last block's observation stream ends before the queries.
                parameter.copy_(rows[: len(parameter)])
    except (KeyError, ValueError) as error:
        raise Psi0Error(f"not the published action head: {error} is missing") from None
    return expert
