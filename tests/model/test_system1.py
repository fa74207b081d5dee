"""The action expert, of either kind of attention, masks what it should, and so does the flow loss."""

from pathlib import Path

import pytest
import torch

from psi0 import params
from psi0.errors import Psi0Error
from psi0.model.flow import flow_loss, sample_actions
from psi0.model.linear import use_bfloat16_products
from psi0.model.system1 import ActionExpert


@pytest.fixture(params=["joint", "cross"])
def expert(request: pytest.FixtureRequest) -> ActionExpert:
    sizes = params.System1(hidden_size=32, attention=request.param)
    return ActionExpert.create(sizes, horizon=6, context_size=24, seed=0).eval()


def test_one_time_for_all_steps_may_be_given_once(expert: ActionExpert) -> None:
    actions, context, state = torch.randn(2, 6, 36), torch.randn(2, 5, 24), torch.randn(2, 32)
    time = torch.tensor([0.2, 0.9])
    once = expert.velocity(actions, time, context, None, state)
    torch.testing.assert_close(once, expert.velocity(actions, time[:, None].expand(2, 6), context, None, state))


def test_a_clean_prefix_may_be_told_by_its_length_or_by_its_times(expert: ActionExpert) -> None:
    actions, context, state = torch.randn(2, 6, 36), torch.randn(2, 5, 24), torch.randn(2, 32)
    level, late = torch.tensor([0.2, 0.9]), torch.arange(6) >= torch.tensor([[2], [0]])

    def learned(*how: torch.Tensor) -> list[torch.Tensor]:
        expert.zero_grad()
        velocity = expert.velocity(actions, how[0], context, None, state, *how[1:])
        velocity.square().sum().backward()
        return [velocity.detach(), *(p.grad for p in expert.parameters() if p.grad is not None)]

    torch.testing.assert_close(learned(level, late), learned(level[:, None] * late))


def test_masked_context_changes_nothing(expert: ActionExpert) -> None:
    actions, context, state = torch.randn(2, 6, 36), torch.randn(2, 5, 24), torch.randn(2, 32)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    other = context.clone()
    other[1, 3:] = 7.0
    time = torch.rand(2)
    torch.testing.assert_close(
        expert.velocity(actions, time, context, mask, state), expert.velocity(actions, time, other, mask, state)
    )


def test_loss_ignores_what_the_mask_leaves_out(expert: ActionExpert) -> None:
    actions, context, state = torch.randn(3, 6, 36), torch.randn(3, 5, 24), torch.randn(3, 32)
    mask = torch.ones(3, 6, 36)
    mask[:, 4:] = 0

    def loss(noise_seed: int, max_delay: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(noise_seed)
        return flow_loss(
            expert, actions, context, None, state, action_mask=mask, max_delay=max_delay, generator=draw
        ).loss

    assert torch.equal(loss(1, 4), loss(1, 4))
    assert not torch.equal(loss(1, 4), loss(2, 4))
    loss(1, 0).backward()
    per_number = expert.out.bias.grad
    assert per_number is not None and per_number.isfinite().all()


def test_a_fully_masked_batch_costs_nothing(expert: ActionExpert) -> None:
    actions, context, state = torch.randn(2, 6, 36), torch.randn(2, 5, 24), torch.randn(2, 32)
    found = flow_loss(expert, actions, context, None, state, action_mask=torch.zeros(2, 6, 1))
    assert found.loss.item() == 0 and found.per_sample.tolist() == [0.0, 0.0]


def test_sampler_keeps_the_clean_prefix(expert: ActionExpert) -> None:
    prefix = torch.randn(2, 3, 36)
    actions = sample_actions(
        expert,
        torch.randn(2, 6, 36),
        torch.linspace(1, 0, 4),
        torch.randn(2, 5, 24),
        None,
        torch.randn(2, 32),
        prefix,
    )
    assert torch.equal(actions[:, :3], prefix)


def test_learns_a_constant_chunk(expert: ActionExpert) -> None:
    torch.manual_seed(0)
    target, context, state = (
        torch.randn(1, 6, 36).expand(32, -1, -1),
        torch.zeros(32, 2, 24),
        torch.zeros(32, 32),
    )
    expert.train()
    optimizer = torch.optim.AdamW(expert.parameters(), lr=2e-3)
    losses = []
    for _ in range(120):
        loss = flow_loss(expert, target, context, None, state, max_delay=3).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.5 * losses[0]


def test_bfloat16_products_change_training_only(expert: ActionExpert) -> None:
    actions, context, state = torch.randn(2, 6, 36), torch.randn(2, 5, 24), torch.randn(2, 32)
    before = expert.velocity(actions, torch.rand(2, generator=torch.Generator().manual_seed(0)), context, None, state)
    names = list(expert.state_dict())
    use_bfloat16_products(expert)
    time = torch.rand(2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(expert.velocity(actions, time, context, None, state), before)
    assert list(expert.state_dict()) == names
    trained = expert.train().velocity(actions, time, context, None, state)
    assert trained.dtype == torch.float32 and 0 < (trained - before).abs().max() < 0.1
    trained.square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in expert.parameters())


def test_save_and_load(expert: ActionExpert, tmp_path: Path) -> None:
    expert.save(tmp_path)
    again = ActionExpert.load(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in expert.state_dict().items())
    (tmp_path / "system1.safetensors").write_bytes(b"no")
    with pytest.raises(Psi0Error, match=r"system1\.safetensors"):
        ActionExpert.load(tmp_path)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="hidden_size 30 must be even and a multiple of heads 4"):
        params.System1(hidden_size=30)
