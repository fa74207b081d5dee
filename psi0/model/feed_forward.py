"""Two-layer networks whose inner activations stay in bfloat16 while training.

The inner layer is several times wider than the outer ones; casting it to fp32 and back costs as much as the products.
Weights, inputs, outputs and gradients are fp32; in evaluation mode everything is computed in fp32, layer by layer.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.model.linear import bfloat16_twin_of


class _Gelu(torch.autograd.Function):
    """`down(gelu(up(x)))`, tanh approximation, inner activations in bfloat16."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
        flat, up, down = inputs.reshape(-1, inputs.shape[-1]).bfloat16(), up.bfloat16(), down.bfloat16()
        inner = torch.addmm(up_bias.bfloat16(), flat, up.t())
        active = functional.gelu(inner, approximate="tanh")
        context.save_for_backward(flat, up, down, inner, active)
        output = (active @ down.t()).float()
        output += down_bias
        return output.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        flat, up, down, inner, active = context.saved_tensors
        full = gradients[0].reshape(-1, gradients[0].shape[-1])
        small = full.bfloat16()
        to_inner = torch.ops.aten.gelu_backward(small @ down, inner, approximate="tanh")
        to_inputs = (to_inner @ up).float().view(*gradients[0].shape[:-1], -1)
        return (
            to_inputs,
            (to_inner.t() @ flat).float(),
            to_inner.sum(0, dtype=torch.float32),
            (small.t() @ active).float(),
            full.sum(0),
        )


class _GatedSilu(torch.autograd.Function):
    """`down(silu(gate(x)) * up(x))` without biases, inner activations in bfloat16."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        flat, small_down = inputs.reshape(-1, inputs.shape[-1]).bfloat16(), down.bfloat16()
        both = torch.cat([gate, up]).bfloat16()
        inner_gate, inner_up = (flat @ both.t()).chunk(2, dim=-1)
        active = functional.silu(inner_gate) * inner_up
        context.save_for_backward(flat, both, small_down, inner_gate, inner_up, active)
        return (active @ small_down.t()).float().view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        flat, both, down, inner_gate, inner_up, active = context.saved_tensors
        small = gradients[0].reshape(-1, gradients[0].shape[-1]).bfloat16()
        to_active = small @ down
        to_gate = torch.ops.aten.silu_backward(to_active * inner_up, inner_gate)
        to_both = torch.cat([to_gate, to_active * functional.silu(inner_gate)], dim=-1)
        to_inputs = (to_both @ both).float().view(*gradients[0].shape[:-1], -1)
        to_weights = (to_both.t() @ flat).float().chunk(2)
        return to_inputs, to_weights[0], to_weights[1], (small.t() @ active).float()


def gelu_network(inputs: Tensor, up: nn.Linear, down: nn.Linear) -> Tensor:
    """`down(gelu(up(inputs)))`, tanh approximation, inner activations in bfloat16."""
    return _Gelu.apply(inputs, up.weight, up.bias, down.weight, down.bias)


def gated_network(inputs: Tensor, gate: nn.Linear, up: nn.Linear, down: nn.Linear) -> Tensor:
    """`down(silu(gate(inputs)) * up(inputs))` without biases, inner activations in bfloat16."""
    return _GatedSilu.apply(inputs, gate.weight, up.weight, down.weight)


def may_fuse(network: nn.Module, layer: nn.Linear) -> bool:
    """Whether a network's layers may be skipped over: while training, unless their weights are not all there is.

    ZeRO-3 gathers the weights of a layer when that layer is called, and marks them with `ds_id`; a low-rank update
    (`psi0.model.low_rank`) is added when the layer is called.
    """
    return network.training and not hasattr(layer.weight, "ds_id") and not hasattr(layer, "low_rank_down")


class FeedForward(nn.Module):
    """The MLP of the action expert: four times wider inside, GELU (tanh), as published."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(hidden_size, 4 * hidden_size), nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(..., hidden)` to `(..., hidden)`."""
        return self.down(functional.gelu(self.up(tokens), approximate="tanh"))


@bfloat16_twin_of(FeedForward)
class Bfloat16FeedForward(FeedForward):
    """`FeedForward` with bfloat16 inner activations in training mode."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(..., hidden)` to `(..., hidden)`."""
        return gelu_network(tokens, self.up, self.down) if may_fuse(self, self.up) else super().forward(tokens)
