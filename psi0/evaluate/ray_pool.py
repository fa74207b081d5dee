"""The same jobs as Ray tasks: one actor per worker, on the cluster of `PSI0_RAY_ADDRESS` or an embedded Ray.

Every machine of the cluster must see the checkout at the same path (a shared folder), as for training. An episode is a
fact of its seed on one kind of processor and renderer; a cluster of unlike machines gives hashes of its own.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from psi0.cluster import connect_ray
from psi0.evaluate.pool import ONE_THREAD, PATIENCE_S
from psi0.evaluate.worker import Answer, Bench, Job, Setup

_POLL_S = 1.0


class _Runner:
    """A worker's bench on some machine of the cluster."""

    def __init__(self, setup: Setup, root: str) -> None:
        os.chdir(root)
        self._bench = Bench(setup)

    def run(self, job: Job) -> Answer:
        return self._bench.run(job)


@dataclass
class _Actor:
    handle: Any
    job: Job | None = None
    answer: Any = None
    since: float = 0.0


class RayPool:
    """Runs jobs side by side on Ray; use it as a context manager, which ends the actors and leaves the cluster."""

    def __init__(self, setup: Setup, workers: int, patience_s: float = PATIENCE_S) -> None:
        """Connect. Raises `Psi0Error` when no cluster answers."""
        self._count = max(1, workers)
        self._patience_s = patience_s
        self._ray = connect_ray(self._count, ONE_THREAD)
        self._setup = self._ray.put(setup)
        self._actor = self._ray.remote(_Runner)
        self._actors: list[_Actor] = []

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors = []
        self._ray.shutdown()

    @property
    def idle(self) -> int:
        """Jobs that can be given now."""
        return self._count - sum(actor.job is not None for actor in self._actors)

    @property
    def busy(self) -> bool:
        """Whether any job is under way."""
        return self.idle < self._count

    def give(self, job: Job) -> None:
        """Start a job on an idle actor, making one first if there are fewer than allowed."""
        free = next((actor for actor in self._actors if actor.job is None), None) or self._start()
        free.job, free.since = job, time.monotonic()
        free.answer = free.handle.run.remote(job)

    def take(self) -> list[tuple[Job, Answer]]:
        """Wait a moment and return what finished, was lost, or hung."""
        waiting = {actor.answer: actor for actor in self._actors if actor.job is not None}
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=_POLL_S)
        answers = []
        for reference, actor in waiting.items():
            answer = self._answer(actor, reference in ready)
            if answer is not None and actor.job is not None:
                answers.append((actor.job, answer))
                actor.job = None
        return answers

    def _answer(self, actor: _Actor, ready: bool) -> Answer | None:
        if ready:
            try:
                answer: Answer = self._ray.get(actor.answer)
                return answer
            except self._ray.exceptions.RayError as error:
                return self._lost(actor, f"the Ray worker was lost ({str(error).splitlines()[0]})")
        if time.monotonic() - actor.since > self._patience_s:
            return self._lost(actor, f"no answer within {self._patience_s:.0f} s")
        return None

    def _lost(self, actor: _Actor, message: str) -> Answer:
        self._ray.kill(actor.handle)
        self._actors.remove(actor)
        return Answer("error", message=message)

    def _start(self) -> _Actor:
        made = self._actor.options(num_cpus=1, runtime_env={"env_vars": ONE_THREAD})
        actor = _Actor(made.remote(self._setup, str(Path.cwd())))
        self._actors.append(actor)
        return actor
