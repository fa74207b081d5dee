"""How many imported demonstrations end as they did when they were recorded: `python -m benchmarks.world.replayed`.

Reads `data/raw/demonstrations` and `data/prepared/demonstrations` of the recipe. Those that began with a mistake, which
is not recorded, are left out.
"""

import argparse

from benchmarks.world.episodes import Tally, head, line
from psi0 import paths
from psi0.params import load_params
from psi0.sim.recorders.replay import replay, replayable
from psi0.sim.world import make_world


def main() -> None:
    """Print the table, a row per task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=load_params().tasks)
    parser.add_argument("--episodes", type=int, default=40, help="at most so many per task")
    chosen = parser.parse_args()
    params = load_params()
    block = params.demonstrations
    print(head("Played back"), flush=True)
    for task in chosen.tasks:
        recorded = replayable(paths.raw_demonstrations(task), paths.prepared_demonstrations(task), block.recoveries)
        world = make_world(task, params.control, params.camera, render=False, objects=params.objects(task))
        tags, steps, shown = [], 0, recorded[: chosen.episodes]
        for seed, actions in shown:
            outcome = replay(world, seed, actions, block.noise)
            tags.append(outcome.tag if outcome else "timeout")
            steps += world.steps
        failed = {tag: tags.count(tag) for tag in set(tags) - {"success"}}
        tally = Tally(len(tags), tags.count("success"), failed, steps / params.control.policy_hz / max(len(tags), 1))
        print(line(task, "imported demonstration", tally), flush=True)


if __name__ == "__main__":
    main()
