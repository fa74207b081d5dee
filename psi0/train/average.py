"""An exponential moving average of the trained weights: what is validated and published, while training goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from psi0.errors import Psi0Error


def decay_at(step: int, decay: float) -> float:
    """Decay of the average after step 0, 1, ...: `min(decay, (1 + n) / (10 + n))` with n steps taken.

    The rise lets a short run forget its random beginning; `decay` itself holds after about 9 / (1 - decay) steps.
    """
    taken = step + 1
    return min(decay, (1 + taken) / (10 + taken))


class Average:
    """The average of a module's trainable parameters, which every rank holds whole (ZeRO stages 0 to 2)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._own = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._mean = {name: value.detach().clone() for name, value in self._own.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights that a step left: `mean = decay * mean + (1 - decay) * weight`."""
        weights = [value.detach() for value in self._own.values()]
        torch._foreach_lerp_(list(self._mean.values()), weights, 1 - decay_at(step, self._decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module holds the average inside the block, and its own weights, bit for bit, after it."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the module's weights and the average, one tensor at a time."""
        for name, value in self._own.items():
            before = value.detach().clone()
            value.copy_(self._mean[name])
            self._mean[name].copy_(before)

    def state(self) -> dict[str, Tensor]:
        """The average by parameter name, on the CPU."""
        return {name: value.cpu().clone().contiguous() for name, value in self._mean.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` returned. Raises `Psi0Error` when names do not fit."""
        if set(state) != set(self._mean):
            raise Psi0Error("the checkpoint's average does not fit the model; delete the checkpoint folder")
        for name, value in self._mean.items():
            value.copy_(state[name])
