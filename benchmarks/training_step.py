"""One optimiser step of stage 3 at tiny size, on random samples: what the other benchmarks of training time."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from psi0.model import text
from psi0.model.linear import use_bfloat16_products
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2
from psi0.params import Training, load_params
from psi0.train.engine import Batch, Engine
from psi0.train.flow_chunks import FlowObjective
from psi0.train.optimizer import parameter_groups
from psi0.train.precision import BFLOAT16_LINEAR
from psi0.train.team import Team

KEY_POINTS = 3
INSTRUCTION = "pick up the red can from the table"


def join(rank: int, ranks: int, meeting: str | None = None) -> Team:
    """Join the ranks that meet in a folder; without one, be alone."""
    os.environ["LOCAL_RANK"] = str(rank)
    store = f"file://{meeting or tempfile.mkdtemp()}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    return Team(rank, ranks, torch.device("cpu"))


def make_step(precision: str, team: Team, batch: int) -> Callable[[], None]:
    """Build both networks and return a function that takes one step of `batch` samples, shared out over the ranks."""
    params = load_params()
    changes = {"precision": precision, "batch": batch, "ranks": team.ranks, "zero_stage": 0}
    training: Training = params.finetune.model_copy(update=changes)
    tokenizer = text.built_in_tokenizer()
    text.add_action_tokens(tokenizer, params.tokenizer.vocabulary)
    system2 = System2.create(
        params.system2,
        camera=(params.camera.height, params.camera.width),
        tokenizer=tokenizer,
        action_tokens=params.tokenizer.vocabulary,
        key_points=KEY_POINTS,
        seed=0,
    )
    width, horizon = system2.config.hidden_size, params.control.chunk
    system1 = ActionExpert.create(params.system1, horizon=horizon, context_size=width, seed=0)
    objective = FlowObjective(system2, system1, params.finetune.max_delay, params.finetune.key_point_loss, frozen=False)
    if precision == BFLOAT16_LINEAR:
        use_bfloat16_products(objective)
    engine = Engine(objective, parameter_groups(objective, training), training, team)
    draw = torch.Generator().manual_seed(team.rank)
    own, size = batch // team.ranks, (params.camera.height, params.camera.width, 3)
    prompt = system2.make_prompt(tokenizer).batch([INSTRUCTION] * own)
    samples: Batch = {
        "images": torch.randint(0, 256, (own, *size), dtype=torch.uint8, generator=draw),
        "text_ids": torch.from_numpy(prompt.ids),
        "text_mask": torch.from_numpy(prompt.mask),
        "state": torch.randn(own, 32, generator=draw),
        "actions": torch.randn(own, horizon, 36, generator=draw),
        "action_mask": torch.ones(own, 1, 36),
        "key_points": torch.randn(own, KEY_POINTS * 5, generator=draw),
    }
    return lambda: engine.step([samples], 100, draw) and None


def seconds_per_step(step: Callable[[], None], steps: int) -> float:
    """Median wall time of a step."""
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
