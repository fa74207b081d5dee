"""A complete policy with random weights, small enough to build in a second."""

import numpy as np
from tokenizers import Tokenizer

from psi0 import params
from psi0.lineage import Lineage
from psi0.model.normalizer import ACTION_CLIP, STATE_CLIP, Normalizer, Scale
from psi0.model.policy_config import PolicyConfig
from psi0.model.policy_folder import PolicyFolder
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2

HEIGHT, WIDTH, KEY_POINTS, HORIZON = 48, 64, 2, 8
ACTION_TOKENS = 256
SYSTEM2 = params.System2(hidden_size=64)
SYSTEM1 = params.System1(hidden_size=64)


def make_system2(tokenizer: Tokenizer, sizes: params.System2 = SYSTEM2, seed: int = 0) -> System2:
    return System2.create(
        sizes,
        camera=(HEIGHT, WIDTH),
        tokenizer=tokenizer,
        action_tokens=ACTION_TOKENS,
        key_points=KEY_POINTS,
        seed=seed,
    ).eval()


def make_policy(tokenizer: Tokenizer) -> PolicyFolder:
    """The policy in memory; `tokenizer` holds `ACTION_TOKENS` action tokens."""
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
