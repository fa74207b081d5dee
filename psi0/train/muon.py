"""Muon: matrices take orthogonal steps, everything else goes by AdamW.

Momentum of a matrix is replaced by the nearest orthogonal matrix (five Newton-Schulz iterations), so that all its
directions are learnt at one rate instead of the few that dominate the gradient; K. Jordan and others, 2024
(kellerjordan.github.io/posts/muon). Steps are scaled to AdamW's usual size (Moonlight, arXiv 2502.16982, section 2.2).
PyTorch's own `torch.optim.Muon` takes plain matrices alone, one after the other; here convolution kernels count as
matrices too, and those of one shape are worked on together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_ITERATIONS, _COEFFICIENTS = 5, (3.4445, -4.775, 2.0315)
"""Of the Newton-Schulz iteration, as published."""
_TINY = 1e-7
_MOMENTUM = 0.95
_USUAL_SIZE = 0.2
"""Root mean square of AdamW's steps, in learning rates."""


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` set hold parameters of two or more dimensions; the others go by fused AdamW.

    `iterates_in` is the arithmetic of the iterations: bfloat16 does, where the hardware has such products.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        learning_rate: float,
        betas: tuple[float, float],
        iterates_in: torch.dtype = torch.float32,
    ) -> None:
        groups, self._iterates_in = list(groups), iterates_in
        self._adamw = torch.optim.AdamW(
            [group for group in groups if not group["orthogonal"]], lr=learning_rate, betas=betas, fused=True
        )
        super().__init__(groups, {"lr": learning_rate, "weight_decay": 0.0})
        # One set of groups and one state: what is set or restored here holds there.
        others = iter(self._adamw.param_groups)
        self.param_groups = [group if group["orthogonal"] else next(others) for group in self.param_groups]
        self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on the gradients that are there."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        self._adamw.step()
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                alike[(len(parameter), parameter[0].numel())].append(parameter)
        for (rows, columns), parameters in alike.items():
            steps = [self._look_ahead(parameter).reshape(rows, columns) for parameter in parameters]
            size = group["lr"] * _USUAL_SIZE * max(rows, columns) ** 0.5
            found = orthogonalized(torch.stack(steps).to(self._iterates_in))
            for parameter, step in zip(parameters, found, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step.view_as(parameter), alpha=-size)

    def _look_ahead(self, parameter: nn.Parameter) -> Tensor:
        """Nesterov's momentum."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)


def orthogonalized(matrices: Tensor) -> Tensor:
    """For each of `(count, rows, columns)`, roughly the nearest matrix whose singular values are all 1.

    Five iterations bring the singular values to 0.7 to 1.2, which is as good. In the arithmetic of the matrices.
    """
    first, second, third = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    near = matrices.mT if tall else matrices
    near = near / (near.norm(dim=(-2, -1), keepdim=True) + _TINY)
    for _ in range(_ITERATIONS):
        square = near @ near.mT
        near = torch.baddbmm(near, torch.baddbmm(square, square, square, beta=second, alpha=third), near, beta=first)
    return near.mT if tall else near
