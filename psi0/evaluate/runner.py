"""Runs the arms of an evaluation on a pool of workers, so that the number of workers never changes the result.

Episodes finish in any order; they are counted strictly in the order of their seeds, and an arm ends with the episode
that decides it. What other workers finished beyond that episode is kept on disk and not looked at.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from psi0.errors import Psi0Error
from psi0.evaluate.pool import Workers
from psi0.evaluate.rollout import Episode
from psi0.evaluate.schemas import Row
from psi0.evaluate.store import Store
from psi0.evaluate.worker import Answer, Job

RETRIES = 2
"""Times an episode is repeated after a fault of the harness, before it counts as a failure."""
HARNESS_ERROR = "harness_error"
MOST_FAILURES_FILMED = 20
"""Failures of the policy beyond this number show nothing new."""
_MOST_INVALID = 50


class Reporter(Protocol):
    """Shows how far an evaluation is."""

    def update(self, arms: Sequence["ArmRun"]) -> None:
        """Something may have changed in these arms."""
        ...


@dataclass
class ArmRun:
    """One arm on its way: its seeds, its results so far, and when it is done.

    Attributes:
        seeds: in the order in which they count.
        limit: most episodes that count; scenes that do not settle are left out and do not count.
        done: whether the outcomes so far decide, asked after every episode.
        videos: how many of the episodes are repeated in the end to film them.
        every_failure: film failures beyond that number too, up to `MOST_FAILURES_FILMED`.
    """

    name: str
    seeds: Iterator[int]
    limit: int
    done: Callable[[Sequence[bool]], bool]
    store: Store
    videos: int = 0
    every_failure: bool = False
    episodes: list[Episode] = field(default_factory=list)
    invalid_seeds: list[int] = field(default_factory=list)
    films: dict[int, bytes] = field(default_factory=dict)
    differing_seeds: list[int] = field(default_factory=list)
    _drawn: list[int] = field(default_factory=list)
    _results: dict[int, Episode | None] = field(default_factory=dict)
    _given: set[int] = field(default_factory=set)
    _attempts: dict[int, int] = field(default_factory=dict)
    _position: int = 0
    _exhausted: bool = False
    _to_film: list[int] | None = None
    _filming: int = 0

    @property
    def decided(self) -> bool:
        """Whether the last episode that counts is known."""
        if len(self.episodes) >= self.limit or (self._exhausted and self._position == len(self._drawn)):
            return True
        return bool(self.episodes) and self.done([episode.row.success for episode in self.episodes])

    def next_job(self) -> Job | None:
        """The next episode worth running now, or None."""
        if not self.decided:
            for seed in self._drawn[self._position :]:
                if seed not in self._results and seed not in self._given:
                    return self._hand_out(seed)
            while not self._exhausted and len(self._drawn) - self._position + len(self.episodes) < self.limit:
                drawn = self._draw()
                if drawn is not None and drawn not in self._results:
                    return self._hand_out(drawn)
                self.count()
                if self.decided:
                    break
            else:
                return None
        if self._to_film is None:
            self._to_film = choose_to_film([episode.row for episode in self.episodes], self.videos, self.every_failure)
        if not self._to_film:
            return None
        self._filming += 1
        return Job(self.name, self._to_film.pop(0), film=True)

    def accept(self, job: Job, answer: Answer) -> None:
        """Take in what came of a job. Raises `Psi0Error` when nothing can be run at all."""
        if answer.kind == "fatal":
            raise Psi0Error(f"evaluation cannot run: {answer.message}")
        if job.film:
            self._accept_film(job, answer)
            return
        self._given.discard(job.seed)
        if answer.kind == "error":
            self._attempts[job.seed] = self._attempts.get(job.seed, 0) + 1
            if self._attempts[job.seed] <= RETRIES:
                return
            self._results[job.seed] = _harness_failure(job.seed, answer.message)
        else:
            self.store.add(job.seed, answer.episode)
            self._results[job.seed] = answer.episode

    def count(self) -> None:
        """Count what follows in seed order, up to the first episode that is still missing."""
        while not self.decided and self._position < len(self._drawn):
            seed = self._drawn[self._position]
            if seed not in self._results:
                break
            self._position += 1
            episode = self._results[seed]
            if episode is not None:
                self.episodes.append(episode)
                continue
            self.invalid_seeds.append(seed)
            if len(self.invalid_seeds) >= _MOST_INVALID:
                raise Psi0Error(f"arm {self.name}: {_MOST_INVALID} scenes did not settle; the world is broken")

    @property
    def finished(self) -> bool:
        """Decided, and every film is there."""
        if not self.decided:
            return False
        return (not self.videos or self._to_film == []) and not self._filming

    @property
    def successes(self) -> int:
        """Successes among the episodes that count."""
        return sum(episode.row.success for episode in self.episodes)

    @property
    def repeated_seeds(self) -> list[int]:
        """Seeds that were run a second time, in seed order."""
        return sorted(self.films)

    def _draw(self) -> int | None:
        seed = next(self.seeds, None)
        if seed is None:
            self._exhausted = True
            return None
        self._drawn.append(seed)
        if seed in self.store.episodes:
            self._results[seed] = self.store.episodes[seed]
        return seed

    def _hand_out(self, seed: int) -> Job:
        self._given.add(seed)
        return Job(self.name, seed)

    def _accept_film(self, job: Job, answer: Answer) -> None:
        self._filming -= 1
        row = next(episode.row for episode in self.episodes if episode.row.seed == job.seed)
        if answer.kind == "error" and self._attempts.setdefault(job.seed, 0) < RETRIES:
            self._attempts[job.seed] += 1
            assert self._to_film is not None
            self._to_film.append(job.seed)
        elif answer.episode is None:
            raise Psi0Error(f"arm {self.name}: seed {job.seed} cannot be repeated to film it: {answer.message}")
        else:
            self.films[job.seed] = answer.film
            if answer.episode.row != row:
                self.differing_seeds.append(job.seed)


def choose_to_film(rows: Sequence[Row], videos: int, every_failure: bool = False) -> list[int]:
    """Seeds to film: half failures and half successes where there are both, the earliest of each, in row order.

    Args:
        videos: how many; 0 films nothing.
        every_failure: film all failures, up to `MOST_FAILURES_FILMED`, and half of `videos` successes.
    """
    rows = [row for row in rows if row.tag != HARNESS_ERROR]
    failures = [row.seed for row in rows if not row.success]
    successes = [row.seed for row in rows if row.success]
    most_failures = max(videos - len(successes), (videos + 1) // 2)
    if every_failure and videos:
        most_failures = max(most_failures, MOST_FAILURES_FILMED)
    chosen = set(failures[:most_failures])
    chosen |= set(successes[: max(videos - len(chosen), videos // 2 if every_failure else 0)])
    return [row.seed for row in rows if row.seed in chosen]


def run_arms(arms: Sequence[ArmRun], pool: Workers, reporter: Reporter) -> None:
    """Run every arm to its decision and film what it asks for. Earlier arms come first; no worker waits for an arm.

    Raises:
        Psi0Error: the world or a policy cannot be built, or the scenes do not settle.
    """
    by_name = {arm.name: arm for arm in arms}
    while True:
        while pool.idle and (job := _next_job(arms)) is not None:
            pool.give(job)
        reporter.update(arms)
        if all(arm.finished for arm in arms):
            return
        if not pool.busy:
            raise RuntimeError("evaluation stalled: episodes are missing and none is under way")
        for done, answer in pool.take():
            by_name[done.arm].accept(done, answer)
        for arm in arms:
            arm.count()


def _next_job(arms: Sequence[ArmRun]) -> Job | None:
    return next((job for arm in arms if (job := arm.next_job()) is not None), None)


def _harness_failure(seed: int, message: str) -> Episode:
    row = Row(seed=seed, success=False, tag=HARNESS_ERROR, steps=0, qpos_sha256="", pixels_sha256="")
    return Episode(row, {}, f"after {RETRIES + 1} attempts: {message}")
