"""Is `precision: auto` right here? A training step with fp32 products against one with bfloat16 products.

Run: `python benchmarks/precision.py`. The two take turns in one process, so that both meet the same load.
"""

import statistics

import torch
from machine import describe_machine
from training_step import join, make_step, seconds_per_step

from psi0.params import load_params
from psi0.train.precision import BFLOAT16_LINEAR, FLOAT32, resolve_precision

TURNS, STEPS_PER_TURN, WARM_UP = 3, 4, 2


def main() -> None:
    """Print the time of a step in either arithmetic, their ratio, and what `auto` chooses."""
    print(describe_machine(f"torch {torch.__version__}"))
    team = join(0, 1)
    torch.set_num_threads(1)
    training = load_params().finetune
    batch = training.batch // training.ranks
    steps = {name: make_step(name, team, batch) for name in (FLOAT32, BFLOAT16_LINEAR)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        seconds_per_step(step, WARM_UP)
    for _ in range(TURNS):
        for name, step in steps.items():
            times[name].append(seconds_per_step(step, STEPS_PER_TURN))
    print(f"stage 3 at tiny size, {batch} samples, one thread; median of {TURNS} turns (least to most)")
    for name, found in times.items():
        print(f"{name:16} {statistics.median(found) * 1e3:6.0f} ms  ({min(found) * 1e3:.0f} to {max(found) * 1e3:.0f})")
    ratio = statistics.median(times[FLOAT32]) / statistics.median(times[BFLOAT16_LINEAR])
    print(f"fp32 takes {ratio:.2f} times as long; auto chooses {resolve_precision(training, team)}")


if __name__ == "__main__":
    main()
