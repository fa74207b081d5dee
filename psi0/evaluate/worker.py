"""A worker process: one world, one policy per arm, one episode at a time.

Import little here: the module is loaded by every worker before anything heavy is needed.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Literal

from psi0.errors import Psi0Error
from psi0.evaluate.controls import Eyes, UnavailableControlError, make_eyes
from psi0.evaluate.rollout import Episode, Pace, World, run_episode
from psi0.evaluate.video import Film
from psi0.policy import Policy


@dataclass(frozen=True)
class Arm:
    """What acts, how fast, and what it is allowed to see.

    `make_policy` is called with the worker's world and must be picklable and hashable: arms with an equal one share
    the policy.
    """

    name: str
    make_policy: Callable[[World], Policy]
    pace: Pace
    control: str = "none"


@dataclass(frozen=True)
class Setup:
    """Everything a worker needs to begin."""

    make_world: Callable[[], World]
    invalid_seed: type[Exception]
    image_height: int
    image_width: int
    frames_per_second: int
    arms: tuple[Arm, ...]
    swap_distance: float = 0.0
    machine: Mapping[str, str] = field(default_factory=dict)
    """What the episodes' hashes depend on besides software: renderer and CPU type."""


@dataclass(frozen=True)
class Job:
    """One episode to run, filmed or not."""

    arm: str
    seed: int
    film: bool = False


@dataclass(frozen=True)
class Answer:
    """What came of a job.

    `invalid`: the scene of this seed does not settle. `error`: the harness failed, try again. `fatal`: nothing can
    be run at all, for example because the policy cannot be loaded.
    """

    kind: Literal["episode", "invalid", "error", "fatal"]
    episode: Episode | None = None
    film: bytes = b""
    message: str = ""


class Bench:
    """The world, policies and eyes of one worker, made when first needed."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._arms = {arm.name: arm for arm in setup.arms}
        self._world: World | None = None
        self._policies: dict[Callable[[World], Policy], Policy] = {}
        self._eyes: dict[str, Eyes] = {}

    def prepare(self, arm: Arm) -> tuple[World, Policy, Eyes]:
        """Build what an arm needs. Raises whatever building raises."""
        if self._world is None:
            self._world = self._setup.make_world()
        if arm.make_policy not in self._policies:
            self._policies[arm.make_policy] = arm.make_policy(self._world)
        if arm.control not in self._eyes:
            setup = self._setup
            self._eyes[arm.control] = make_eyes(
                arm.control,
                setup.image_height,
                setup.image_width,
                setup.make_world,
                setup.invalid_seed,
                setup.swap_distance,
            )
        return self._world, self._policies[arm.make_policy], self._eyes[arm.control]

    def run(self, job: Job) -> Answer:
        """Run a job; every exception becomes an answer."""
        arm = self._arms[job.arm]
        try:
            world, policy, eyes = self.prepare(arm)
        except Psi0Error as error:
            return Answer("fatal", message=str(error))
        except Exception as error:
            return Answer("fatal", message=f"arm {arm.name} cannot start: {type(error).__name__}: {error}")
        film = Film(eyes, self._setup.frames_per_second) if job.film else None
        try:
            episode = run_episode(world, policy, eyes, job.seed, arm.pace, film)
            return Answer("episode", episode, film.encode() if film else b"")
        except self._setup.invalid_seed as error:
            return Answer("invalid", message=str(error))
        except UnavailableControlError as error:
            return Answer("fatal", message=str(error))
        except Exception as error:
            return Answer("error", message=f"{type(error).__name__}: {error}")


def serve(connection: Connection, setup: Setup) -> None:
    """Answer jobs until told to stop (None) or until the other end is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    bench = Bench(setup)
    try:
        while (job := connection.recv()) is not None:
            connection.send(bench.run(job))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even in the middle of an episode that hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
