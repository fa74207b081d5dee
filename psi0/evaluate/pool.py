"""Worker processes that may die: jobs in, answers out, a lost job comes back as an error of the harness."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Protocol

from psi0.evaluate.worker import Answer, Job, Setup, serve

PATIENCE_S = 600.0
"""After this long an episode counts as hung and its worker is ended."""
_POLL_S = 1.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}
"""Workers share the cores: one thread each, rendering included (the pixels do not depend on it)."""


class Workers(Protocol):
    """Whoever runs jobs side by side: processes here, or a Ray cluster (`psi0.evaluate.ray_pool`)."""

    @property
    def idle(self) -> int:
        """Jobs that can be given now."""
        ...

    @property
    def busy(self) -> bool:
        """Whether any job is under way."""
        ...

    def give(self, job: Job) -> None:
        """Start a job on an idle worker."""
        ...

    def take(self) -> list[tuple[Job, Answer]]:
        """Wait a moment and return what finished, was lost, or hung."""
        ...


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None
    since: float = 0.0


class Pool:
    """Runs jobs side by side; use it as a context manager, which ends the processes."""

    def __init__(self, setup: Setup, workers: int, patience_s: float = PATIENCE_S) -> None:
        self._setup = setup
        self._count = max(1, workers)
        self._patience_s = patience_s
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if worker.job is None and kind is None:
                with suppress(OSError):
                    worker.connection.send(None)
                worker.process.join(5)
            self._end(worker)
        self._workers = []

    @property
    def idle(self) -> int:
        """Jobs that can be given now."""
        return self._count - sum(worker.job is not None for worker in self._workers)

    @property
    def busy(self) -> bool:
        """Whether any job is under way."""
        return self.idle < self._count

    def give(self, job: Job) -> None:
        """Start a job on an idle worker, starting the worker first if there are fewer than allowed."""
        free = next((worker for worker in self._workers if worker.job is None), None) or self._start()
        free.job, free.since = job, time.monotonic()
        with suppress(OSError):  # A worker that died idle: `take` reports the job as lost.
            free.connection.send(job)

    def take(self) -> list[tuple[Job, Answer]]:
        """Wait a moment and return what finished, was lost, or hung."""
        waiting = {worker.connection: worker for worker in self._workers if worker.job is not None}
        wait([*waiting, *(worker.process.sentinel for worker in waiting.values())], timeout=_POLL_S)
        answers = []
        for worker in waiting.values():
            answer = self._answer(worker)
            if answer is not None and worker.job is not None:
                answers.append((worker.job, answer))
                worker.job = None
        return answers

    def _answer(self, worker: _Worker) -> Answer | None:
        try:
            if worker.connection.poll():
                answer: Answer = worker.connection.recv()
                return answer
        except (EOFError, OSError):
            return self._lost(worker, "the worker process died")
        if not worker.process.is_alive():
            return self._lost(worker, f"the worker process died (exit code {worker.process.exitcode})")
        if time.monotonic() - worker.since > self._patience_s:
            return self._lost(worker, f"no answer within {self._patience_s:.0f} s")
        return None

    def _lost(self, worker: _Worker, message: str) -> Answer:
        self._end(worker)
        self._workers.remove(worker)
        return Answer("error", message=message)

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self._setup), daemon=True)
        with _environment(ONE_THREAD):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    @staticmethod
    def _end(worker: _Worker) -> None:
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join()
        worker.connection.close()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
