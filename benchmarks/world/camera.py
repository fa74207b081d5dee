"""What the head camera has in view while demonstrators act: `python -m benchmarks.world.camera`.

Seen means inside the picture of `camera` in params.yaml; what hides behind an arm or a cart counts as seen.
"""

import argparse

import numpy as np

from psi0 import paths
from psi0.params import Params, load_params
from psi0.policy import Observation
from psi0.seeds import EVALUATION_SEEDS_START
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.tasks import TASKS, make_task
from psi0.sim.variation import LEVELS, Level
from psi0.sim.world import InvalidSeed, World


def in_view(world: World) -> np.ndarray:
    """Which of the task's key points lie inside the picture now `(K,)`."""
    return np.abs(world.key_points()[:, 3:]).max(axis=1) <= 1.0


def watch(params: Params, task: str, level: Level, episodes: int) -> list[np.ndarray]:
    """Per episode, key points in view before every step `(steps, K)`."""
    world = World(make_task(task), params.control, params.camera, level, paths.ROBOT, render=False)
    demonstrator, seen = make_demonstrator(world), []
    for seed in range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + episodes):
        try:
            world.reset(seed)
        except InvalidSeed:
            continue
        demonstrator.reset(seed)
        rows, outcome = [], None
        while outcome is None:
            rows.append(in_view(world))
            blank = Observation(np.zeros((1, 1, 3), np.uint8), world.state(), world.instruction, world.steps, None, 0)
            outcome = world.step(demonstrator.act(blank)[0])
        seen.append(np.array(rows))
    return seen


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--level", default="L1", choices=LEVELS)
    parser.add_argument("--episodes", type=int, default=50)
    chosen = parser.parse_args()
    params = load_params()
    print("| Task | Key point | In the first picture | In all pictures | Never in view |\n|---|---|---|---|---|")
    for task in chosen.tasks:
        seen = watch(params, task, chosen.level, chosen.episodes)
        for index, name in enumerate(TASKS[task].key_point_names):
            first = sum(bool(rows[0, index]) for rows in seen)
            share = np.concatenate(seen)[:, index].mean()
            never = sum(not rows[:, index].any() for rows in seen)
            print(f"| `{task}` | {name} | {first} of {len(seen)} | {share:.0%} | {never} of {len(seen)} |", flush=True)


if __name__ == "__main__":
    main()
