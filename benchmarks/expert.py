"""Our action expert against a plain restatement of the published one, in the same run, on one thread.

Run: `python -m benchmarks.expert` (add `--paper` for the full width: 2 GB per copy).

The restatement computes what the published description says, step by step, from the published weights: separate
projections for queries, keys and values, everything anew at every Euler step. Before anything is timed both must
reproduce the recorded outputs of the published head.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from benchmarks.machine import describe_machine
from psi0.model.config import System1Config
from psi0.model.flow import sample_actions
from psi0.model.published import computed_constants, from_published, read_sizes, to_published
from psi0.model.published_check import LIMIT
from psi0.model.system1 import ActionExpert

FIXTURE = Path("tests/model/fixtures/official_action_head")
STEPS = 10


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


def ratios(plain: Callable[[], object], ours: Callable[[], object], calls: int) -> tuple[float, float, float, float]:
    """Times of both, taken in turns [ms]: the smallest of each, and the smallest and median ratio."""
    taken: list[tuple[float, float]] = []
    for turn in range(calls + 3):
        pair = []
        for run in (plain, ours):
            begin = time.perf_counter()
            run()
            pair.append((time.perf_counter() - begin) * 1000)
        if turn >= 3:
            taken.append((pair[0], pair[1]))
    each = [a / b for a, b in taken]
    return min(a for a, _ in taken), min(b for _, b in taken), min(each), statistics.median(each)


def compare(weights: dict[str, Tensor], expert: ActionExpert, inputs: dict[str, Tensor], calls: int) -> None:
    """Print one line for forward and backward, and one for a sample of ten steps."""
    plain = Plain(weights, expert.config.heads)
    noise, features, state = inputs["actions"], inputs["vlm_features"], inputs["state"]
    mask = inputs["vlm_mask"]
    level = torch.full((len(noise), noise.shape[1]), 0.4)

    def learn_plain() -> None:
        plain.velocity(noise, level * 1000, features, mask, state).square().mean().backward()

    def learn_ours() -> None:
        expert.velocity(noise, level, features, mask > 0, state).square().mean().backward()

    levels = torch.linspace(1, 0, STEPS + 1)
    for title, one, other in (
        ("forward and backward", learn_plain, learn_ours),
        (
            f"sample of {STEPS} steps",
            lambda: plain.sample(noise, levels, features, mask, state),
            lambda: sample_actions(expert, noise, levels, features, mask > 0, state),
        ),
    ):
        theirs, mine, smallest, median = ratios(one, other, calls)
        print(
            f"  {title:22} plain {theirs:9.2f} ms, ours {mine:9.2f} ms: {median:.2f}x median, {smallest:.2f}x smallest"
        )


def check(weights: dict[str, Tensor], expert: ActionExpert, recorded: dict[str, Tensor]) -> None:
    """Both must give what was recorded from the published code."""
    plain = Plain(weights, expert.config.heads)
    fixed = (recorded["vlm_features"], recorded["vlm_mask"], recorded["state"])
    found = plain.sample(recorded["actions"], recorded["sigmas"], *fixed)
    mine = sample_actions(expert, recorded["actions"], recorded["sigmas"], fixed[0], fixed[1] > 0, fixed[2])
    for name, value in (("the restatement", found), ("ours", mine)):
        difference = float((value - recorded["sampled_actions"]).abs().max())
        if not difference <= LIMIT:
            raise SystemExit(f"{name} differs from the recording by {difference:.1e}")
        print(f"  {name}: {difference:.1e} from the recorded sample")


def bandwidth() -> float:
    """Bytes per second that one thread reads."""
    block = torch.ones(1 << 28)
    taken = []
    for _ in range(5):
        begin = time.perf_counter()
        block.sum()
        taken.append(time.perf_counter() - begin)
    return block.numel() * 4 / min(taken)


def paper_size() -> None:
    """The published width, random weights: the ratio beside what memory allows."""
    config = System1Config(schema_version=1, horizon=30, context_size=2048)
    expert = ActionExpert(config).eval()
    weights = {name: value.clone() for name, value in to_published(expert, computed_constants(expert)).items()}
    draw = torch.Generator().manual_seed(0)
    inputs = {
        "actions": torch.randn(1, 30, 36, generator=draw),
        "vlm_features": torch.randn(1, 100, 2048, generator=draw),
        "vlm_mask": torch.ones(1, 100),
        "state": torch.randn(1, 36, generator=draw),
    }
    size = sum(value.numel() * 4 for value in expert.parameters())
    print(
        f"paper width: {size / 1e9:.2f} GB of weights, read once per step: {size / bandwidth() * 1000:.0f} ms at least"
    )
    compare(weights, expert, inputs, calls=2)


def main() -> None:
    """Print the machine, the check, and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--paper", action="store_true", help="the published width too")
    parser.add_argument("--calls", type=int, default=100, help="timed calls of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(f"torch {torch.__version__}, one thread"))
    weights, recorded = load_file(FIXTURE / "model.safetensors"), load_file(FIXTURE / "io.safetensors")
    expert = from_published(weights, read_sizes(FIXTURE / "config.json").ours()).expert.eval()
    check(weights, expert, recorded)
    one = {name: recorded[name][:1] for name in ("actions", "vlm_features", "vlm_mask", "state")}
    for batch in (1, 8):
        print(f"dimensions of the recording (width {expert.config.hidden_size}), batch {batch}")
        inputs = {name: value.repeat(batch, *[1] * (value.ndim - 1)) for name, value in one.items()}
        compare(weights, expert, inputs, arguments.calls)
    if arguments.paper:
        paper_size()


if __name__ == "__main__":
    main()
