"""A complete policy with random weights, small enough to build in a second."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_policy import ACTION_TOKENS, HEIGHT, HORIZON, KEY_POINTS, SYSTEM1, WIDTH, make_system2
from tokenizers import Tokenizer

from psi0.lineage import Lineage
from psi0.model import text
from psi0.model.normalizer import ACTION_CLIP, STATE_CLIP, Normalizer, Scale
from psi0.model.policy_config import PolicyConfig
from psi0.model.policy_folder import PolicyFolder, save_policy
from psi0.model.system1 import ActionExpert


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
    draw = np.random.default_rng(0)
    low, range_ = draw.uniform(-1, 0, 36), draw.uniform(0.1, 1, 36)
    points = Scale.fit(np.zeros(KEY_POINTS * 5), np.ones(KEY_POINTS * 5), clip=5.0)
    return PolicyFolder(
        config=PolicyConfig(
            task="pick_can",
            policy_hz=10,
            horizon=HORIZON,
            execute=4,
            euler_steps=3,
            max_delay=4,
            camera_height=HEIGHT,
            camera_width=WIDTH,
        ),
        system2=make_system2(tokenizer),
        system1=ActionExpert.create(SYSTEM1, horizon=HORIZON, context_size=64, seed=1),
        normalizer=Normalizer(
            state=Scale.fit(low[:32], (low + range_)[:32], clip=STATE_CLIP),
            action=Scale.fit(low, low + range_, clip=ACTION_CLIP),
            key_points=points,
        ),
        tokenizer=tokenizer,
        lineage=Lineage(params_sha256="0" * 64),
    )


@pytest.fixture(scope="session")
def policy_folder(policy: PolicyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "pick_can"
    save_policy(folder, policy)
    return folder
