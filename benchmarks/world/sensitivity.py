"""How much success hangs on how the simulator was built: `python -m benchmarks.world.sensitivity`.

The demonstrator does each task on the same seeds in worlds with one thing changed. Stopped and typed again, it goes on
where it was.
"""

import argparse

from benchmarks.world.changes import NAMES
from benchmarks.world.episodes import head, line, run
from psi0.params import load_params
from psi0.sim.tasks import TASKS
from psi0.sim.variation import LEVELS

_ARM = "demonstrator"


def main() -> None:
    """Print the table, row by row as rows are finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--changes", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--level", default="L1", choices=LEVELS)
    parser.add_argument("--episodes", type=int, default=100, help="episodes of every row")
    chosen = parser.parse_args()
    params = load_params()
    print(head("Change"), flush=True)
    for task in chosen.tasks:
        for change in chosen.changes:
            tally = run(params, task, {_ARM: (_ARM, chosen.episodes)}, chosen.level, change)[_ARM]
            print(line(task, change, tally), flush=True)


if __name__ == "__main__":
    main()
