"""AMO's three files with networks whose answers are known."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from psi0.robot.amo_networks import ADAPTER_FILE, POLICY_FILE, STATISTICS_FILE

STATISTICS = {
    "input_mean": np.linspace(0.1, 1.2, 12),
    "input_std": np.linspace(0.5, 2.0, 12),
    "output_mean": np.linspace(-0.7, 0.7, 15),
    "output_std": np.linspace(0.2, 1.0, 15),
}
WEIGHT, BIAS = np.sin(np.arange(180.0)).reshape(15, 12), np.linspace(-1.0, 1.0, 15)
BATCH_MEAN, BATCH_VARIANCE = np.linspace(-0.5, 0.5, 15), np.linspace(0.5, 1.5, 15)


class Constant(nn.Module):
    """Answers the same to everything."""

    def __init__(self, action: Tensor) -> None:
        super().__init__()
        self.register_buffer("action", action[None].clone())
        self.action: Tensor

    def forward(self, observation: Tensor, history: Tensor) -> Tensor:
        return self.action + 0.0 * (observation.sum() + history.sum())


class Telltale(nn.Module):
    """Answers `action` until tick `tick` of the first episode, then tells its inputs of that tick, 15 numbers a call.

    The first call of all is the one by which a file is tried.
    """

    def __init__(self, action: Tensor, tick: int) -> None:
        super().__init__()
        self.register_buffer("action", action[None].clone())
        self.register_buffer("heard", torch.zeros(1, 1))
        self.action: Tensor
        self.heard: Tensor
        self.tick: int = tick + 1
        self.calls: int = 0

    def forward(self, observation: Tensor, history: Tensor) -> Tensor:
        call = self.calls
        self.calls += 1
        if call == self.tick:
            rest = torch.zeros(1, 15 - (observation.size(1) + history.size(1)) % 15)
            self.heard = torch.cat([observation, history, rest], 1)
        if call <= self.tick:
            return self.action
        begin = 15 * (call - self.tick - 1)
        return self.heard[:, begin : begin + 15]


class OnTheGraphicsCard(nn.Module):
    """Makes zeros on `cuda:0` whatever device it is loaded to, as the published file does."""

    def forward(self, observation: Tensor, history: Tensor) -> Tensor:
        return self.zeros() + observation[:, :15]

    def zeros(self) -> Tensor:
        return torch.zeros(1, 15, device=torch.device("cuda:0"))


class BreaksWhenWalking(nn.Module):
    """Answers NaN to a forward command."""

    def forward(self, observation: Tensor, history: Tensor) -> Tensor:
        return 0.0 * observation[:, :15] + torch.sqrt(0.1 - observation[:, 101:102])


def adapter() -> nn.Module:
    """12 to 15 numbers, with batch statistics that count only in evaluation mode."""
    linear, batch = nn.Linear(12, 15), nn.BatchNorm1d(15)
    linear.weight.data, linear.bias.data = torch.tensor(WEIGHT).float(), torch.tensor(BIAS).float()
    batch.running_mean, batch.running_var = torch.tensor(BATCH_MEAN).float(), torch.tensor(BATCH_VARIANCE).float()
    return nn.Sequential(linear, batch, nn.LeakyReLU())


def write_amo(folder: Path, policy: nn.Module | None = None, adapts: nn.Module | None = None) -> Path:
    """Write the three files; by default a policy that holds AMO's stance. Returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.jit.save(torch.jit.script(policy or Constant(torch.zeros(15))), folder / POLICY_FILE)
    torch.jit.save(torch.jit.script(adapts or adapter()), folder / ADAPTER_FILE)
    torch.save(STATISTICS, folder / STATISTICS_FILE)
    return folder
