"""A planned field is the expert at the levels of its schedule, number for number."""

from pathlib import Path

import pytest
import torch

from psi0 import params
from psi0.export import graphs
from psi0.export.parity import graph_error
from psi0.model import euler
from psi0.model.planned_field import ObservedContext, PlannedField
from psi0.model.system1 import ActionExpert

LEVELS = torch.from_numpy(euler.schedule(4))


@pytest.fixture(scope="module", params=["joint", "cross"])
def expert(request: pytest.FixtureRequest) -> ActionExpert:
    sizes = params.System1(hidden_size=32, attention=request.param)
    return ActionExpert.create(sizes, horizon=6, context_size=24, seed=0).eval()


def step_inputs(expert: ActionExpert) -> tuple[torch.Tensor, ...]:
    observed = ObservedContext(expert)(torch.randn(1, 32), torch.randn(1, 5, 24), torch.ones(1, 5))
    return torch.randn(1, 6, 36), torch.tensor([1]), torch.ones(1, 6), *observed


@pytest.mark.parametrize("clean", [0, 1, 6])
@pytest.mark.parametrize("step", range(4))
@torch.no_grad()
def test_it_is_the_expert_at_a_level(expert: ActionExpert, step: int, clean: int) -> None:
    actions, context, state = torch.randn(2, 6, 36), torch.randn(2, 5, 24), torch.randn(2, 32)
    seen, late = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]), (torch.arange(6) >= clean).expand(2, 6)
    expected = expert.velocity(actions, LEVELS[step].expand(2), context, seen, state, late)
    field, observed = PlannedField(expert, LEVELS), ObservedContext(expert)(state, context, seen.float())
    found = field(actions, torch.tensor([step]), late.float(), *observed)
    torch.testing.assert_close(found, expected)
    if not clean:
        free = expert(actions, observed[0], field.modulation(torch.tensor([step])), observed[1])
        torch.testing.assert_close(free, expected)


@torch.no_grad()
def test_it_computes_nothing_of_a_level_again(expert: ActionExpert) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("computed from a level")

    field = PlannedField(expert, LEVELS)
    layers = [layer for name, layer in expert.named_modules() if "modulation" in name or name == "time"]
    hooks = [layer.register_forward_pre_hook(broken) for layer in layers]
    assert field(*step_inputs(expert)).shape == (1, 6, 36)
    for hook in hooks:
        hook.remove()
    assert len(hooks) == (2 if expert.config.attention == "joint" else 1) * expert.config.blocks + 2


def test_weights_may_lie_beside_the_graph(
    expert: ActionExpert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "EMBEDDED_BYTES", 0)
    monkeypatch.setattr(graphs, "SMALL_BYTES", 1 << 10)
    with torch.no_grad():
        graph = graphs.Graph("s1_step", PlannedField(expert, LEVELS).eval(), step_inputs(expert))
    graphs.export_graph(graph, tmp_path, 20)
    assert (tmp_path / "s1_step.onnx.data").stat().st_size > (tmp_path / "s1_step.onnx").stat().st_size
    assert graph_error(graph, tmp_path / "s1_step.onnx") < 1e-5
