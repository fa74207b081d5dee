"""A world of arithmetic that keeps the contract of `psi0.sim.world`, for what needs many quick episodes.

The goal is a number in [-1, 1] drawn from the seed and painted into the image. An episode succeeds when the action's
target yaw stays near the goal for a few steps.
"""

import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.layout import ActionPart

CHUNK = 6


class UnsettledError(Exception):
    """The scene of this seed does not settle."""


@dataclass(frozen=True)
class ToyOutcome:
    success: bool
    tag: str
    detail: str = ""


class ToyWorld:
    """Ten steps at most; the image's one gray value encodes the goal."""

    def __init__(self, invalid_every: int = 0) -> None:
        self._invalid_every = invalid_every
        self.max_steps = 10
        self.steps = 0
        self.instruction, self.other_instruction = "match the number", "match the other number"
        self.commanded = np.zeros(36)

    def reset(self, seed: int) -> None:
        if self._invalid_every and seed % self._invalid_every == 0:
            raise UnsettledError(f"seed {seed}")
        self.steps, self._near, self.commanded = 0, 0, np.zeros(36)
        self._removed = False
        self.goal = float(np.random.default_rng(seed).integers(-100, 101)) / 100
        self._actions: list[bytes] = [np.float32(self.goal).tobytes()]

    def head_camera(self) -> NDArray[np.uint8]:
        return np.full((8, 8, 3), round(127 + 100 * self.goal), np.uint8)

    def state(self) -> NDArray[np.float32]:
        return np.zeros(32, np.float32)

    def step(self, action: NDArray[np.floating[Any]]) -> ToyOutcome | None:
        if not np.isfinite(action).all():
            return ToyOutcome(False, "invalid_action", "not finite")
        self.commanded = np.asarray(action, float)
        self.steps += 1
        self._actions.append(np.asarray(action, np.float32).tobytes())
        near = abs(float(action[ActionPart.TARGET_YAW]) - self.goal) < 0.1
        self._near = self._near + 1 if near else 0
        if self._near >= 3:
            return ToyOutcome(True, "success")
        return ToyOutcome(False, "not_reached") if self.steps >= self.max_steps else None

    def remove_object(self) -> None:
        self._removed = True

    def attempted(self) -> bool:
        return self._removed and self.steps >= 2

    def object_place(self) -> NDArray[np.floating[Any]]:
        return np.array([self.goal, 0.0, 0.0])

    def third_person(self, height: int, width: int) -> NDArray[np.uint8]:
        return np.full((height, width, 3), 20 * self.steps, np.uint8)

    def qpos_sha256(self) -> str:
        return hashlib.sha256(b"".join(self._actions)).hexdigest()

    def describe(self) -> dict[str, Any]:
        return {
            "robot": {"x": -0.5, "y": 0.0, "yaw": 0.0},
            "key_points": {"number": [0.2, np.round(self.goal, 3), 0.7]},
        }


class Seeing:
    """Reads the goal from the image and commands it; a `share` of its episodes, drawn from the seed, goes wrong."""

    privileged = False

    def __init__(self, share_wrong: float = 0.0) -> None:
        self._share_wrong = share_wrong
        self._wrong = False

    def reset(self, seed: int) -> None:
        self._wrong = bool(np.random.default_rng([seed, 1]).random() < self._share_wrong)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        chunk = np.zeros((CHUNK, 36), np.float32)
        goal = (float(observation.head_camera[0, 0, 0]) - 127) / 100
        chunk[:, ActionPart.TARGET_YAW] = -2.0 if self._wrong else goal
        return chunk


class Missing(Seeing):
    """Goes wrong on one seed."""

    def __init__(self, missed: int) -> None:
        super().__init__()
        self._missed = missed

    def reset(self, seed: int) -> None:
        self._wrong = seed == self._missed


class Recorder(Seeing):
    """Remembers what it was shown; row r of its n-th answer carries the value 100 n + r in the first joint."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Observation] = []

    def reset(self, seed: int) -> None:
        self.seen = []

    def act(self, observation: Observation) -> NDArray[np.float32]:
        self.seen.append(observation)
        chunk = np.zeros((CHUNK, 36), np.float32)
        chunk[:, 0] = 100 * len(self.seen) + np.arange(CHUNK)
        return chunk


class Dying(Seeing):
    """Kills its own process the first few times, counted in a folder, as a crashing runtime would."""

    def __init__(self, folder: Path, deaths: int) -> None:
        super().__init__()
        self._folder, self._deaths = folder, deaths

    def act(self, observation: Observation) -> NDArray[np.float32]:
        died = len(list(self._folder.iterdir()))
        if died < self._deaths:
            (self._folder / f"{died}-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(observation)


class Hanging(Seeing):
    """Never answers."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        time.sleep(3600)
        return super().act(observation)


class Raising(Seeing):
    """Raises in the middle of an episode."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        raise ArithmeticError("no answer")


class SlowToFail(Seeing):
    """Thinks long before it fails: whoever counts episodes as they finish sees the successes first."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        if self._wrong and observation.step == 0:
            time.sleep(0.25)
        return super().act(observation)


class Unshaped(Seeing):
    """Answers with one action instead of a chunk."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        return np.zeros(36, np.float32)


def make_toy_world() -> ToyWorld:
    return ToyWorld()


def make_patchy_world() -> ToyWorld:
    return ToyWorld(invalid_every=5)


def make_broken_world() -> ToyWorld:
    raise OSError("no display")


def make_seeing(world: ToyWorld) -> Seeing:
    return Seeing()


def make_missing(missed: int, world: ToyWorld) -> Seeing:
    return Missing(missed)


def make_careless(world: ToyWorld) -> Seeing:
    return Seeing(0.4)


def make_wrong(world: ToyWorld) -> Seeing:
    return Seeing(1.0)


def make_slow_to_fail(world: ToyWorld) -> Seeing:
    return SlowToFail(0.4)


def make_raising(world: ToyWorld) -> Seeing:
    return Raising()


def make_hanging(world: ToyWorld) -> Seeing:
    return Hanging()


@dataclass(frozen=True)
class MakeDying:
    folder: Path
    deaths: int

    def __call__(self, world: ToyWorld) -> Dying:
        return Dying(self.folder, self.deaths)
