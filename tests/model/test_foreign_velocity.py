"""`finetune.foreign_velocity`: a policy whose prefix says something else walks as it sees, not as it walked."""

import pytest
import torch
from torch import Tensor, nn

from psi0 import params
from psi0.errors import Psi0Error
from psi0.model.flow import flow_loss, sample_actions
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2Output
from psi0.params import parse_params
from psi0.robot.layout import ActionPart
from psi0.train.flow_chunks import FlowObjective

HORIZON = 6


class KnownStates(nn.Module):
    """In place of System-2: hidden states are given."""

    def with_key_points(self, hidden: Tensor, mask: Tensor) -> System2Output:
        return System2Output(hidden, mask, None)


def walks(directions: Tensor) -> Tensor:
    """Chunks `(batch, horizon, 36)` that stand still but for walking in a direction `(batch,)` throughout."""
    actions = torch.zeros(len(directions), HORIZON, 36)
    actions[..., ActionPart.VELOCITY] = directions[:, None, None]
    return actions


def seen(directions: Tensor, blur: float, draw: torch.Generator) -> Tensor:
    """Hidden states `(batch, 2, 24)` that show the direction, less surely than what was done before."""
    return (directions + blur * torch.randn(directions.shape, generator=draw))[:, None, None].expand(-1, 2, 24)


def learn(foreign_velocity: float) -> ActionExpert:
    torch.manual_seed(0)
    expert = ActionExpert.create(params.System1(hidden_size=32), horizon=HORIZON, context_size=24, seed=0)
    objective = FlowObjective(KnownStates(), expert, 4, 0.0, frozen=True, foreign_velocity=foreign_velocity)
    optimizer, draw = torch.optim.AdamW(expert.parameters(), lr=3e-3), torch.Generator().manual_seed(1)
    for _ in range(150):
        directions = torch.randint(0, 2, (32,), generator=draw) * 2.0 - 1.0
        batch = {
            "actions": walks(directions),
            "hidden": seen(directions, 1.0, draw),
            "text_mask": torch.ones(32, 2, dtype=torch.bool),
            "state": torch.zeros(32, 32),
            "action_mask": torch.ones(36),
        }
        loss = objective(batch, draw)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return expert.eval()


def walked(expert: ActionExpert, see: float, prefix: float) -> float:
    """The mean velocity after a prefix of two steps."""
    noise = torch.randn(16, HORIZON, 36, generator=torch.Generator().manual_seed(2))
    directions = torch.full((16,), see)
    chunk = sample_actions(
        expert,
        noise,
        torch.linspace(1, 0, 5),
        seen(directions, 0.0, torch.Generator()),
        None,
        torch.zeros(16, 32),
        walks(torch.full((16,), prefix))[:, :2],
    )
    return float(chunk[:, 2:, ActionPart.VELOCITY].mean())


def test_it_walks_as_it_sees_though_it_stood_or_walked_elsewhere() -> None:
    astray, attentive = learn(0.0), learn(0.5)
    for see in (-1.0, 1.0):
        assert see * walked(astray, see, prefix=see) > 0.5 and see * walked(attentive, see, prefix=see) > 0.5
        assert see * walked(attentive, see, prefix=-see) > 0.0 > see * walked(astray, see, prefix=-see)


def test_only_velocities_of_prefixes_are_foreign_and_only_where_asked_for() -> None:
    actions, draw = torch.randn(64, HORIZON, 36), torch.Generator().manual_seed(0)
    objective = FlowObjective(KnownStates(), nn.Identity(), 4, 0.0, frozen=True, foreign_velocity=0.5)
    promised = objective.promised(actions, draw)
    assert promised is not None
    changed = (promised != actions).any(dim=(1, 2))
    assert 16 < int(changed.sum()) < 48
    promised[..., ActionPart.VELOCITY] = actions[..., ActionPart.VELOCITY]
    assert torch.equal(promised, actions)
    assert FlowObjective(KnownStates(), nn.Identity(), 4, 0.0, frozen=True).promised(actions, draw) is None


def test_what_is_promised_stands_in_the_prefix_alone() -> None:
    expert = ActionExpert.create(params.System1(hidden_size=32), horizon=HORIZON, context_size=24, seed=0).eval()
    actions, context, state = torch.randn(8, HORIZON, 36), torch.randn(8, 2, 24), torch.zeros(8, 32)

    def loss(max_delay: int, promised: Tensor | None) -> Tensor:
        draw = torch.Generator().manual_seed(3)
        return flow_loss(
            expert, actions, context, None, state, max_delay=max_delay, promised=promised, generator=draw
        ).loss

    assert torch.equal(loss(4, actions), loss(4, None))
    assert not torch.equal(loss(4, actions + 1), loss(4, None))
    assert torch.equal(loss(0, actions + 1), loss(0, None))


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(Psi0Error, match="foreign_velocity"):
        parse_params({"finetune": {"foreign_velocity": 1.5}}, "params.yaml")
