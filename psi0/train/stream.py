"""Batches made ahead of time by one thread, so that the optimiser rarely waits for data."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from psi0.errors import Psi0Error
from psi0.train import sampler
from psi0.train.engine import Batch
from psi0.train.recipe import Recipe
from psi0.train.team import Team

AHEAD = 3


@dataclass(frozen=True)
class StepData:
    """What one rank computes on in one step.

    Attributes:
        step: counted from 0.
        micro_batches: `accumulation` batches.
        names: of the samples, in the order of the micro batches.
        problem: what went wrong instead, on this rank.
    """

    step: int
    micro_batches: list[Batch]
    names: list[str]
    problem: str | None = None


def make_step(recipe: Recipe, step: int, team: Team) -> StepData:
    """This rank's data of one step: a pure function of parameters, step and rank."""
    training = recipe.training
    number, phase = recipe.phase(step)
    samples = phase.samples
    # Every phase shuffles on its own: its seed and its count of steps begin anew.
    chosen = sampler.global_batch(
        len(samples.training), training.batch, step - phase.first_step, training.seed * 8 + number
    )
    part = sampler.share(team.rank, team.ranks, training.batch)
    rows = samples.training[chosen][part]
    augmentation = recipe.augmentation(sampler.draws(training.seed, step)).part(part)
    each = len(rows) // training.accumulation
    micro = [slice(i * each, (i + 1) * each) for i in range(training.accumulation)]
    return StepData(
        step,
        [samples.batch(rows[one], augmentation.part(one)) for one in micro],
        [samples.describe(int(row)) for row in rows],
    )


class Stream:
    """Iterates over the steps that are left; `waited` is the time the consumer stood idle [s]."""

    def __init__(self, recipe: Recipe, first_step: int, team: Team) -> None:
        self._recipe, self._team = recipe, team
        self._steps = range(first_step, recipe.training.steps)
        self._ready: queue.Queue[StepData] = queue.Queue(maxsize=AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, daemon=True, name="batches")
        self.waited = 0.0

    def _produce(self) -> None:
        for step in self._steps:
            try:
                data = make_step(self._recipe, step, self._team)
            except (Psi0Error, OSError, ValueError, IndexError, RuntimeError) as error:
                data = StepData(step, [], [], f"step {step}: the batch cannot be read ({error})")
            while not self._stop.is_set():
                try:
                    self._ready.put(data, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if self._stop.is_set() or data.problem:
                return

    def __iter__(self) -> Iterator[StepData]:
        self._thread.start()
        try:
            for _ in self._steps:
                began = time.monotonic()
                data = self._ready.get()
                self.waited += time.monotonic() - began
                yield data
        finally:
            self._stop.set()
            self._thread.join()
