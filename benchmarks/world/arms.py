"""How often demonstrators and policies that learned nothing succeed: `python -m benchmarks.world.arms`.

Nothing here looks at a picture, so none is drawn. `replay` plays the actions of one demonstration on other seeds.
Stopped and typed again, it goes on where it was.
"""

import argparse
import json
from pathlib import Path

from benchmarks.world.demonstrations import blind_world, demonstrate
from benchmarks.world.episodes import head, line, run
from psi0.files import write_text
from psi0.params import Params, load_params
from psi0.settings import settings
from psi0.sim.tasks import TASKS
from psi0.sim.variation import LEVELS, Level

_RECORDED_SEED = 0
ARMS = ("demonstrator", "zero", "frozen", "script", "replay")


def record(params: Params, task: str, level: Level) -> Path:
    """Write the actions of the first demonstration that succeeds, from seed 0 on, and return the file."""
    world, seed = blind_world(params, task, level), _RECORDED_SEED
    while True:
        rows, outcome = demonstrate(world, seed)
        if outcome.success:
            file = settings().home / "benchmarks" / f"{task}_{level}_{seed}.json"
            write_text(file, json.dumps([[round(float(value), 6) for value in row] for row in rows]))
            return file
        seed += 1


def main() -> None:
    """Print the table, task by task as they are finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--level", default="L1", choices=LEVELS)
    parser.add_argument("--episodes", type=int, default=200, help="episodes of the demonstrator")
    parser.add_argument("--others", type=int, default=50, help="episodes of every other arm")
    chosen = parser.parse_args()
    params = load_params()
    print(head("Arm"), flush=True)
    for task in chosen.tasks:
        policies = {
            arm: (
                f"replay:{record(params, task, chosen.level)}" if arm == "replay" else arm,
                chosen.episodes if arm == "demonstrator" else chosen.others,
            )
            for arm in chosen.arms
        }
        for arm, tally in run(params, task, policies, chosen.level).items():
            print(line(task, arm, tally), flush=True)


if __name__ == "__main__":
    main()
