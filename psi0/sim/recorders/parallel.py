"""Record episodes side by side in processes, with the same bytes whatever their number.

Seeds are tried in order, and the first `wanted` that were kept make the dataset: which process recorded which
episode, and how many more were under way at the end, leaves no trace.
"""

import ctypes
import multiprocessing
import shutil
import signal
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from psi0.errors import Psi0Error
from psi0.params import TRIES_PER_EPISODE
from psi0.progress import progress

_DIE_WITH_PARENT = 1


class EpisodeRecorder(Protocol):
    """Records one episode after the other; none may depend on those before it."""

    def record(self, seed: int, folder: Path) -> dict[str, Any] | None:
        """Write the episode of a seed into an empty folder; return its summary, or None when it is discarded."""
        ...


@dataclass(frozen=True)
class Recorded:
    """An episode that was kept: its seed, the folder it lies in for now, and what its recorder says about it."""

    seed: int
    folder: Path
    summary: dict[str, Any]


Attempts = Generator[tuple[int, dict[str, Any] | None], None, None]
"""Seed and summary of one attempt after the other."""

_recorder: EpisodeRecorder | None = None


def _start_worker(make: Callable[..., EpisodeRecorder], arguments: tuple[Any, ...]) -> None:
    global _recorder
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _recorder = make(*arguments)


def _record(recorder: EpisodeRecorder, seed: int, folder: Path) -> dict[str, Any] | None:
    folder.mkdir(parents=True)
    summary = recorder.record(seed, folder)
    if summary is None:
        shutil.rmtree(folder)
    return summary


def _record_in_worker(seed: int, folder: Path) -> dict[str, Any] | None:
    assert _recorder is not None
    return _record(_recorder, seed, folder)


def _one_process(
    make: Callable[..., EpisodeRecorder], arguments: tuple[Any, ...], seeds: range, folder: Path
) -> Attempts:
    recorder = make(*arguments)
    for seed in seeds:
        yield seed, _record(recorder, seed, folder / str(seed))


def _many_processes(
    make: Callable[..., EpisodeRecorder],
    arguments: tuple[Any, ...],
    seeds: range,
    folder: Path,
    workers: int,
    missing: Callable[[], int],
) -> Attempts:
    """In the order of seeds. `missing()` says how many are still wanted: no more than that are under way."""
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(make, arguments)
    )
    waiting: deque[tuple[int, Future[dict[str, Any] | None]]] = deque()
    upcoming = iter(seeds)
    try:
        while True:
            while len(waiting) < min(2 * workers, missing()) and (seed := next(upcoming, None)) is not None:
                waiting.append((seed, pool.submit(_record_in_worker, seed, folder / str(seed))))
            if not waiting:
                return
            seed, result = waiting.popleft()
            yield seed, result.result()
    except BrokenProcessPool:
        raise Psi0Error("a recording process was killed (out of memory?); run again, perhaps with workers: 1") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def record_episodes(
    make: Callable[..., EpisodeRecorder],
    arguments: tuple[Any, ...],
    *,
    label: str,
    wanted: int,
    first_seed: int,
    workers: int,
    folder: Path,
) -> tuple[list[Recorded], int]:
    """Record until `wanted` episodes are kept. Returns them in the order of their seeds, and how many were tried.

    `make(*arguments)` builds a recorder in each process; both must be picklable. Episodes are left in `folder/<seed>`.

    Raises:
        Psi0Error: more than three of four attempts were discarded, or a process was killed.
    """
    seeds = range(first_seed, first_seed + TRIES_PER_EPISODE * wanted)
    workers = min(workers, wanted)
    kept: list[Recorded] = []
    episodes = (
        _one_process(make, arguments, seeds, folder)
        if workers == 1
        else _many_processes(make, arguments, seeds, folder, workers, lambda: wanted - len(kept))
    )
    with progress(f"recording {label}", wanted) as advance:
        for seed, summary in episodes:
            if summary is None:
                continue
            kept.append(Recorded(seed, folder / str(seed), summary))
            advance(1)
            if len(kept) == wanted:
                episodes.close()
                return kept, seed - first_seed + 1
    raise Psi0Error(f"recording {label}: only {len(kept)} of {len(seeds)} attempts succeeded, {wanted} are wanted")
