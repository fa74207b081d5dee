"""The same seed is the same episode: on repeat, in another process, in another order, with any number of workers."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from psi0.evaluate.evaluation import Arrangement, evaluate
from psi0.evaluate.resolve import resolve
from psi0.evaluate.schemas import Row
from psi0.params import Camera, Control, parse_params
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.tasks import TASKS
from psi0.sim.variation import Level
from psi0.sim.world import World, make_world

SEEDS = (700_000, 700_001)
STEPS = 10
LEVEL: Level = "L2"
"""The one that draws most at random."""

Hashes = dict[str, tuple[str, str]]


def begin(world: World, seed: int) -> tuple[str, str]:
    """Hashes of all positions and of all pictures of the beginning of a demonstration."""
    policy, pixels = make_demonstrator(world), hashlib.sha256()
    world.reset(seed)
    policy.reset(seed)
    for _ in range(STEPS):
        picture = world.head_camera()
        pixels.update(picture.tobytes())
        world.step(policy.act(world.observe(picture))[0])
    return world.qpos_sha256(), pixels.hexdigest()


def begin_all(robot_folder: Path, tasks: Sequence[str], seeds: Sequence[int]) -> Hashes:
    """`begin` by task and seed, in the order given, each task in one world."""
    found = {}
    for task in tasks:
        world = make_world(task, Control(), Camera(width=64, height=48), LEVEL, robot_folder)
        for seed in seeds:
            found[f"{task} {seed}"] = begin(world, seed)
        world.close()
    return found


def test_every_task_repeats_exactly_here_and_in_another_process_in_another_order(robot_folder: Path) -> None:
    first = begin_all(robot_folder, list(TASKS), SEEDS)
    assert len(set(first.values())) == len(first)
    assert begin_all(robot_folder, list(TASKS), SEEDS[::-1]) == first
    code = (
        "import json, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_determinism as t; "
        "print(json.dumps(t.begin_all(Path(sys.argv[2]), list(t.TASKS)[::-1], t.SEEDS[::-1])))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(robot_folder)]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {name: tuple(hashes) for name, hashes in json.loads(fresh.stdout.splitlines()[-1]).items()} == first


@pytest.mark.usefixtures("here")
def test_whole_episodes_repeat_exactly_with_any_number_of_workers_in_any_order() -> None:
    def rows(seeds: Sequence[int], workers: int) -> dict[int, Row]:
        chosen = {"level": "L1", "workers": workers}
        params = parse_params({"camera": {"width": 64, "height": 48}, "evaluation": chosen}, "test")
        arm = Arrangement("policy", resolve("demonstrator", params.control.chunk), "none", len(seeds), seeds=seeds)
        found = evaluate(params, "pick_can", [arm], videos=0, keep=False)["policy"].evaluation.rows
        return {row.seed: row for row in found}

    alone = rows(SEEDS, 1)
    assert rows(SEEDS[::-1], 2) == alone and tuple(alone) == SEEDS
    assert all(row.qpos_sha256 and row.pixels_sha256 for row in alone.values())
    assert len({row.pixels_sha256 for row in alone.values()}) == len(SEEDS)
