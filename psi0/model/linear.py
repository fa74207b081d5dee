"""Layers whose products run in bfloat16 while training: fp32 weights, fp32 in, fp32 out.

On CPUs with AVX512-BF16 or AMX a bfloat16 product is several times faster than an fp32 one, while autocasting a whole
network gains nothing there (attention backward and group normalisation get slower).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Layer = TypeVar("Layer", bound=type[nn.Module])
_TWINS: dict[type[nn.Module], type[nn.Module]] = {}


def bfloat16_twin_of(layer: type[nn.Module]) -> Callable[[Layer], Layer]:
    """Class decorator: this class replaces `layer`, whose parameters it shares, in `use_bfloat16_products`."""

    def register(twin: Layer) -> Layer:
        _TWINS[layer] = twin
        return twin

    return register


class _Product(torch.autograd.Function):
    """`x @ weight.T + bias` with all three matrix products of forward and backward in bfloat16."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        flat, small = inputs.reshape(-1, inputs.shape[-1]).bfloat16(), weight.bfloat16()
        context.save_for_backward(flat, small)
        context.has_bias = bias is not None
        output = (flat @ small.t()).float()
        if bias is not None:
            output += bias
        return output.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        flat, weight = context.saved_tensors
        full = gradients[0].reshape(-1, gradients[0].shape[-1])
        small = full.bfloat16()
        needs_inputs, needs_weight, needs_bias = context.needs_input_grad
        to_inputs = (small @ weight).float().view(*gradients[0].shape[:-1], -1) if needs_inputs else None
        to_weight = (small.t() @ flat).float() if needs_weight else None
        return to_inputs, to_weight, full.sum(0) if needs_bias and context.has_bias else None


@bfloat16_twin_of(nn.Linear)
class Bfloat16Linear(nn.Linear):
    """`nn.Linear` with the same parameters; bfloat16 products in training mode, plain fp32 in evaluation mode."""

    def forward(self, input: Tensor) -> Tensor:
        """Map `(..., in_features)` to `(..., out_features)`."""
        if self.training:
            return _Product.apply(input, self.weight, self.bias)
        return functional.linear(input, self.weight, self.bias)


class _Convolution(torch.autograd.Function):
    """A 2-D convolution whose forward and backward run in bfloat16."""

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        small, kernel = inputs.bfloat16(), weight.bfloat16().contiguous(memory_format=torch.channels_last)
        context.save_for_backward(small, kernel)
        context.stride, context.padding = stride, padding
        return functional.conv2d(small, kernel, None, stride, padding).float() + bias[:, None, None]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        inputs, weight = context.saved_tensors
        small = gradients[0].bfloat16().contiguous(memory_format=torch.channels_last)
        to_inputs, to_weight, _ = torch.ops.aten.convolution_backward(
            small,
            inputs,
            weight,
            None,
            context.stride,
            context.padding,
            (1, 1),
            False,
            (0, 0),
            1,
            (context.needs_input_grad[0], context.needs_input_grad[1], False),
        )
        to_bias = gradients[0].sum((0, 2, 3)) if context.needs_input_grad[2] else None
        return (
            None if to_inputs is None else to_inputs.float(),
            None if to_weight is None else to_weight.float(),
            to_bias,
            None,
            None,
        )


@bfloat16_twin_of(nn.Conv2d)
class Bfloat16Conv2d(nn.Conv2d):
    """`nn.Conv2d` (zero padding, one group) with bfloat16 products in training mode, plain fp32 in evaluation mode."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(batch, channels, height, width)`."""
        if self.training:
            return _Convolution.apply(input, self.weight, self.bias, self.stride, self.padding)
        return super().forward(input)


def use_bfloat16_products(module: nn.Module) -> None:
    """Turn every layer below `module` that has a bfloat16 twin into it, in place.

    Names and parameters stay, and evaluation mode computes in fp32 as before.
    """
    for layer in module.modules():
        twin = _TWINS.get(type(layer))
        if twin is not None:
            layer.__class__ = twin
