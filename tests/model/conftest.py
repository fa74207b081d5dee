"""A complete policy with random weights, small enough to build in a second, and worlds to act in."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_policy import ACTION_TOKENS, make_policy
from tokenizers import Tokenizer

from psi0.model import text
from psi0.model.policy_folder import PolicyFolder, save_policy
from psi0.params import Camera, Control
from psi0.sim.world import World, make_world


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks this small lose more to waiting threads than they gain, above all on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    built = text.built_in_tokenizer()
    text.add_action_tokens(built, ACTION_TOKENS)
    return built


@pytest.fixture(scope="session")
def policy(tokenizer: Tokenizer) -> PolicyFolder:
    return make_policy(tokenizer)


@pytest.fixture(scope="session")
def policy_folder(policy: PolicyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "pick_can"
    save_policy(folder, policy)
    return folder


@pytest.fixture(scope="module")
def worlds(robot_folder: Path) -> Callable[[str], World]:
    """The world of a task at L1, without pictures, made once per module."""
    made: dict[str, World] = {}

    def get(task: str) -> World:
        if task not in made:
            made[task] = make_world(task, Control(), Camera(width=64, height=48), "L1", robot_folder, render=False)
        return made[task]

    return get
