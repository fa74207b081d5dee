"""Muon: steps are orthogonal, the right parameters get them, they lead somewhere, the state is whole."""

import pytest
import torch
from torch import Tensor, nn

from psi0.errors import Psi0Error
from psi0.params import Finetune, parse_params
from psi0.train.muon import orthogonalized
from psi0.train.optimizer import make_optimizer, parameter_groups

SIZE, RATE = 64, 0.05


def training(**fields: object) -> Finetune:
    """Fine-tuning under Muon, in fp32."""
    return Finetune.model_validate({"optimizer": "muon", "precision": "float32", **fields})


@pytest.mark.parametrize("shape", [(64, 64), (32, 200), (200, 32)])
@pytest.mark.parametrize("arithmetic", [torch.float32, torch.bfloat16])
def test_all_directions_get_steps_of_one_size(shape: tuple[int, int], arithmetic: torch.dtype) -> None:
    scales = torch.logspace(0, -2, min(shape))
    left, _, right = torch.linalg.svd(torch.randn(3, *shape, generator=torch.manual_seed(0)), full_matrices=False)
    found = orthogonalized((left * scales @ right).to(arithmetic)).float()
    assert found.shape == (3, *shape)
    along = torch.diagonal(left.mT @ found @ right.mT, dim1=-2, dim2=-1)
    assert float(along.min()) > 0.55 and float(along.max()) < 1.3
    assert float((found - left * along[:, None] @ right).abs().max()) < 0.05


def test_a_gradient_of_zero_moves_nothing() -> None:
    assert not orthogonalized(torch.zeros(1, 32, 32)).any()


def test_weights_of_layers_are_matrices_and_tables_are_not() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(100, 64)
            self.stem = nn.Conv2d(3, 32, 6)
            self.inner = nn.Linear(64, 64)
            self.narrow = nn.Linear(64, 4)
            self.tied = nn.Linear(64, 100, bias=False)
            self.tied.weight = self.table.weight
            self.places = nn.Parameter(torch.zeros(64, 64))

    network = Network()
    names = {id(value): name for name, value in network.named_parameters()}
    groups = parameter_groups(network, training(matrix_learning_rate=4e-3), {"inner.": 5e-4})
    orthogonal = {names[id(one)]: group["peak"] for group in groups if group["orthogonal"] for one in group["params"]}
    assert orthogonal == {"stem.weight": 4e-3, "inner.weight": pytest.approx(2e-3)}
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert not any(group["orthogonal"] for group in parameter_groups(network, training(optimizer="adamw")))


class Regression:
    """A linear layer that learns a map whose inputs differ in size by a factor of a hundred, along no axis."""

    def __init__(self) -> None:
        draw = torch.manual_seed(3)
        self.layer = nn.Linear(SIZE, SIZE)
        axes = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=draw)).Q
        self.inputs = torch.randn(256, SIZE, generator=draw) * torch.logspace(1, -1, SIZE) @ axes
        self.wanted = self.inputs @ torch.randn(SIZE, SIZE, generator=draw)
        own = training(learning_rate=RATE, matrix_learning_rate=RATE, weight_decay=0.0)
        self.optimizer = make_optimizer(parameter_groups(self.layer, own), own)

    def loss(self) -> Tensor:
        """Mean square error."""
        return nn.functional.mse_loss(self.layer(self.inputs), self.wanted)

    def take(self, steps: int) -> "Regression":
        """Optimiser steps."""
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()
        return self


def test_an_ill_conditioned_map_is_learnt() -> None:
    problem = Regression()
    first = problem.loss().item()
    assert problem.take(200).loss().item() < 0.01 * first


def test_what_a_restored_optimiser_does_next_is_the_same() -> None:
    whole, again = Regression().take(7), Regression().take(1)
    again.layer.load_state_dict(whole.layer.state_dict())
    for old, new in zip(whole.optimizer.state.values(), again.optimizer.state.values(), strict=True):
        new.update({name: value.clone() for name, value in old.items()})
    for one in (whole, again):
        one.take(3)
    assert torch.equal(whole.layer.weight, again.layer.weight) and torch.equal(whole.layer.bias, again.layer.bias)


def test_divided_matrices_are_refused() -> None:
    with pytest.raises(Psi0Error, match=r"finetune: optimizer muon needs whole matrices .* zero_stage to 0"):
        parse_params({"finetune": {"optimizer": "muon", "zero_stage": 1}}, "params.yaml")
