"""What inference time costs: `python -m benchmarks.world.latency --policy models/graphs/pick_can`.

Each seed's own demonstration, played back in chunks that arrive late, loses nothing but the first moment, in which the
robot has no chunk yet; a policy has to predict across the delay.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.world.demonstrations import demonstrate
from benchmarks.world.episodes import Tally, count, head, line
from psi0.evaluate.baselines import Replay
from psi0.evaluate.controls import BlindEyes
from psi0.evaluate.evaluation import Arrangement, evaluate
from psi0.evaluate.plan import delay_steps
from psi0.evaluate.resolve import resolve
from psi0.evaluate.rollout import Pace, run_episode
from psi0.params import Params, load_params
from psi0.seeds import EVALUATION_SEEDS_START
from psi0.sim.tasks import TASKS
from psi0.sim.world import InvalidSeed, make_world

DELAYS = (0, 160, 320)
"""Inference delays [ms]."""


def late(params: Params, milliseconds: int) -> Params:
    """The parameters with another inference delay."""
    return params.model_copy(
        update={"evaluation": params.evaluation.model_copy(update={"inference_delay_ms": milliseconds})}
    )


def played_back(params: Params, task: str, seeds: range) -> dict[int, Tally]:
    """Every seed's own demonstration, played back with each delay."""
    world = make_world(
        task, params.control, params.camera, params.evaluation.level, render=False, objects=params.objects(task)
    )
    eyes = BlindEyes(params.camera.height, params.camera.width)
    rows = {delay: [] for delay in DELAYS}
    for seed in seeds:
        try:
            actions, outcome = demonstrate(world, seed)
        except InvalidSeed:
            continue
        if not outcome.success:
            continue
        policy = Replay(np.array(actions, np.float32), params.control.chunk)
        for delay in DELAYS:
            pace = Pace(params.control.execute, delay_steps(late(params, delay)))
            rows[delay].append(run_episode(world, policy, eyes, seed, pace).row)
    return {delay: count(found, params.control.policy_hz) for delay, found in rows.items()}


def judged(params: Params, task: str, policy: str, seeds: range) -> dict[int, Tally]:
    """A policy with each delay."""
    spec, found = resolve(policy, params.control.chunk), {}
    for delay in DELAYS:
        arm = Arrangement("policy", spec, "none", len(seeds), seeds=seeds)
        evaluation = evaluate(late(params, delay), task, [arm], videos=0)["policy"].evaluation
        found[delay] = count(evaluation.rows, params.control.policy_hz, len(evaluation.invalid_seeds))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="pick_can", choices=list(TASKS))
    parser.add_argument(
        "--policy", type=Path, help="what `psi0 evaluate --policy` takes; none plays demonstrations only"
    )
    parser.add_argument("--episodes", type=int, default=50)
    chosen = parser.parse_args()
    params = load_params()
    seeds = range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + chosen.episodes)
    print(head("Delay"), flush=True)
    arms = {"its own demonstration": played_back(params, chosen.task, seeds)}
    if chosen.policy is not None:
        arms["policy"] = judged(params, chosen.task, str(chosen.policy), seeds)
    for name, found in arms.items():
        for delay, tally in found.items():
            print(line(chosen.task, f"{name}, {delay} ms", tally), flush=True)


if __name__ == "__main__":
    main()
