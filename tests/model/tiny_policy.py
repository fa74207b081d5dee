"""Sizes of the test policy, and its System-2."""

from tokenizers import Tokenizer

from psi0 import params
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
