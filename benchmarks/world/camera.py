"""What the head camera has in view while demonstrators act: `python -m benchmarks.world.camera`.

Seen means inside the picture of `camera` in params.yaml; what hides behind an arm or a cart counts as seen.
"""

import argparse

import numpy as np

from benchmarks.world.demonstrations import blind_world, demonstrations
from psi0.params import Params, load_params
from psi0.sim.tasks import TASKS
from psi0.sim.variation import LEVELS, Level
from psi0.sim.world import World


def in_view(world: World) -> np.ndarray:
    """Which of the task's key points lie inside the picture now `(K,)`."""
    return np.abs(world.key_points()[:, 3:]).max(axis=1) <= 1.0


def watch(params: Params, task: str, level: Level, episodes: int) -> list[np.ndarray]:
    """Per episode, key points in view before every step `(steps, K)`."""
    world, seen, rows = blind_world(params, task, level), [], list[np.ndarray]()
    for _ in demonstrations(world, episodes, lambda world: rows.append(in_view(world))):
        seen.append(np.array(rows))
        rows.clear()
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
