"""Which of the eight commands to System-0 the tasks exercise: `python -m benchmarks.world.commands`.

The demonstrators act without disturbance; `psi0 data show` tells the same of recorded demonstrations.
"""

import argparse

import numpy as np

from benchmarks.world.demonstrations import blind_world, demonstrations
from psi0.data.quality import STILL
from psi0.params import load_params
from psi0.robot.layout import LOWER_BODY_COMMANDS, ActionPart
from psi0.sim.tasks import TASKS
from psi0.sim.variation import LEVELS


def main() -> None:
    """Print the table: lowest to highest command over all episodes of a task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--level", default="L1", choices=LEVELS)
    parser.add_argument("--episodes", type=int, default=20)
    chosen = parser.parse_args()
    params = load_params()
    print(f"| Task | {' | '.join(LOWER_BODY_COMMANDS)} |\n|{'---|' * (len(LOWER_BODY_COMMANDS) + 1)}", flush=True)
    for task in chosen.tasks:
        world = blind_world(params, task, chosen.level)
        rows = [action for actions in demonstrations(world, chosen.episodes) for action in actions]
        commands = np.array(rows)[:, ActionPart.COMMANDS]
        cells = [
            f"{low:.2f} to {high:.2f}" if high - low > STILL else "never moves"
            for low, high in zip(commands.min(axis=0), commands.max(axis=0), strict=True)
        ]
        print(f"| `{task}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
