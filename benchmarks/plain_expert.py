"""The published action head restated as its description reads: what our expert is timed against.

Separate projections for queries, keys and values, a noise level per action, everything anew at every Euler step.
"""

import torch
from torch import Tensor
from torch.nn import functional


class Plain:
    """The published head, restated: weights by their published names, one function per line of its description."""

    def __init__(self, weights: dict[str, Tensor], heads: int) -> None:
        self.weights = {name: value.clone().requires_grad_() for name, value in weights.items()}
        self.heads = heads
        self.blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("transformer_blocks"))

    def linear(self, name: str, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def time(self, timestep: Tensor) -> Tensor:
        angles = timestep[..., None] * self.weights["time_ins_embed.w"].detach()
        features = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
        inner = functional.silu(self.linear("time_ins_embed.out_net.0", features))
        return self.linear("time_ins_embed.out_net.2", inner)

    def heads_of(self, tokens: Tensor) -> Tensor:
        batch, count, size = tokens.shape
        return tokens.view(batch, count, self.heads, size // self.heads).transpose(1, 2)

    def norm(self, tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)

    def velocity(self, actions: Tensor, timestep: Tensor, features: Tensor, mask: Tensor, state: Tensor) -> Tensor:
        temb = self.time(timestep if timestep.ndim == 2 else timestep[:, None].expand(actions.shape[:2]))
        views = self.linear("obs_proj.views_proj", features)
        own = self.linear("obs_proj._obs_proc.1", state)[:, None]
        observations = torch.cat([views, own], dim=1)
        observations = observations + self.weights["obs_proj.enc_pos.pe"].detach()[: observations.shape[1]].transpose(
            0, 1
        )
        widened = functional.gelu(self.linear("action_proj_in.ac_proj.0", actions), approximate="tanh")
        tokens = self.linear("action_proj_in.ac_proj.2", widened) + self.weights["action_proj_in.dec_pos"]
        seen = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1) > 0
        allowed = torch.cat([torch.ones(tokens.shape[:2], dtype=torch.bool), seen], dim=1)[:, None, None, :]
        for index in range(self.blocks):
            tokens, observations = self.block(index, tokens, observations, temb, allowed)
        shift, scale = self.linear("action_proj_out.adaLN_modulation.1", functional.silu(temb)).chunk(2, dim=-1)
        return self.linear("action_proj_out.linear", tokens * scale + shift)

    def block(
        self, index: int, tokens: Tensor, observations: Tensor, temb: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        name, last = f"transformer_blocks.{index}", index == self.blocks - 1
        own = self.linear(f"{name}.norm1_act.linear", functional.silu(temb)).chunk(6, dim=-1)
        other = self.linear(f"{name}.norm1_obs.linear", functional.silu(temb[:, -1:])).chunk(2 if last else 6, dim=-1)
        shift, scale = (other[1], other[0]) if last else other[:2]
        normed = self.norm(tokens) * (1 + own[1]) + own[0]
        normed_other = self.norm(observations) * (1 + scale) + shift
        parts = [
            torch.cat(
                [
                    self.heads_of(self.linear(f"{name}.attn.{mine}", normed)),
                    self.heads_of(self.linear(f"{name}.attn.{theirs}", normed_other)),
                ],
                dim=2,
            )
            for mine, theirs in (("to_q", "add_q_proj"), ("to_k", "add_k_proj"), ("to_v", "add_v_proj"))
        ]
        attended = functional.scaled_dot_product_attention(*parts, attn_mask=allowed)
        attended = attended.transpose(1, 2).flatten(2)
        count = tokens.shape[1]
        tokens = tokens + own[2] * self.linear(f"{name}.attn.to_out.0", attended[:, :count])
        tokens = tokens + own[5] * self.feed_forward(f"{name}.ff_act", self.norm(tokens) * (1 + own[4]) + own[3])
        if last:
            return tokens, observations
        observations = observations + other[2] * self.linear(f"{name}.attn.to_add_out", attended[:, count:])
        inner = self.norm(observations) * (1 + other[4]) + other[3]
        return tokens, observations + other[5] * self.feed_forward(f"{name}.ff_obs", inner)

    def feed_forward(self, name: str, inputs: Tensor) -> Tensor:
        return self.linear(
            f"{name}.net.2", functional.gelu(self.linear(f"{name}.net.0.proj", inputs), approximate="tanh")
        )

    @torch.no_grad()
    def sample(self, noise: Tensor, levels: Tensor, features: Tensor, mask: Tensor, state: Tensor) -> Tensor:
        actions = noise
        for index in range(len(levels) - 1):
            timestep = (levels[index] * 1000).expand(len(noise))
            change = levels[index + 1] - levels[index]
            actions = actions + change * self.velocity(actions, timestep, features, mask, state)
        return actions
