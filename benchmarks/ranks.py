"""Which is faster on two cores: two ranks of one thread, or one rank of two threads?

Run: `python benchmarks/ranks.py`. Both train the same global batch and take turns. Ranks are plain processes over
gloo: what Ray adds is a start, and nothing per step.
"""

import json
import os
import statistics
import tempfile
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing
from machine import describe_machine
from training_step import join, make_step, seconds_per_step

from psi0.params import load_params
from psi0.train.precision import resolve_precision

TURNS, STEPS, WARM_UP = 2, 20, 3
SPLITS = ((2, 1), (1, 2))


def measure(rank: int, ranks: int, threads: int, meeting: str) -> None:
    """One rank of a run; rank 0 leaves the time of a step in the meeting place."""
    team = join(rank, ranks, meeting)
    torch.set_num_threads(threads)
    training = load_params().finetune
    step = make_step(resolve_precision(training, team), team, training.batch)
    seconds_per_step(step, WARM_UP)
    seconds = seconds_per_step(step, STEPS)
    if team.leads:
        (Path(meeting) / "seconds.json").write_text(json.dumps(seconds))


def main() -> None:
    """Print the time of a step for either split, and the ratio."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print(describe_machine(f"torch {torch.__version__}"))
    times: dict[tuple[int, int], list[float]] = {split: [] for split in SPLITS}
    for _ in range(TURNS):
        for ranks, threads in SPLITS:
            with tempfile.TemporaryDirectory() as meeting:
                multiprocessing.spawn(measure, (ranks, threads, meeting), nprocs=ranks)
                times[ranks, threads].append(json.loads((Path(meeting) / "seconds.json").read_text()))
    print(
        f"stage 3 at tiny size, {load_params().finetune.batch} samples per step; median of {STEPS} steps, {TURNS} turns"
    )
    for (ranks, threads), found in times.items():
        print(f"{ranks} rank(s) x {threads} thread(s): " + ", ".join(f"{value * 1e3:.0f} ms" for value in found))
    two, one = (statistics.mean(times[split]) for split in SPLITS)
    print(f"one rank of two threads takes {one / two:.2f} times as long as two ranks of one thread")


if __name__ == "__main__":
    main()
