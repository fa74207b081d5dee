"""One episode: a policy acts in a world, with the latency that a robot has.

Time is counted in control steps, never by the clock. At step t the policy looks and begins to think; until step
t + delay the robot goes on with the old chunk, then the new one takes over at its own row `delay`. At the start of
an episode there is no old chunk and the robot holds still. Where inference is later than the chunk is long, the
last action is held: slower, never a crash.

A fault of the policy (an exception, a chunk of the wrong shape, an action outside the limits) is a failed episode.
A fault of the world or of this harness is raised and the episode is repeated elsewhere.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from psi0.evaluate.controls import Eyes
from psi0.evaluate.schemas import Row
from psi0.policy import Observation, Policy
from psi0.robot.layout import ACTION_SIZE

SUCCESS = "success"
POLICY_ERROR = "policy_error"
INVALID_ACTION = "invalid_action"
TIMEOUT = "timeout"


class Outcome(Protocol):
    """How an episode ended."""

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        ...

    @property
    def tag(self) -> str:
        """Why not, in one word."""
        ...


class World(Protocol):
    """What evaluation needs of a world; `psi0.sim.world` provides it."""

    instruction: str
    other_instruction: str
    """The instruction that means the other of two objects; `instruction` itself where there is no choice."""
    steps: int
    max_steps: int
    commanded: NDArray[Any]
    """The action `(36,)` executed last; after `reset` the one the robot stands still with."""

    def reset(self, seed: int) -> None:
        """Begin the episode of a seed."""
        ...

    def head_camera(self) -> NDArray[np.uint8]:
        """The head camera's image, uint8 `(height, width, 3)`."""
        ...

    def state(self) -> NDArray[np.float32]:
        """The measured state `(32,)`."""
        ...

    def step(self, action: NDArray[np.float32]) -> Outcome | None:
        """Execute one action `(36,)` for one control step."""
        ...

    def remove_object(self) -> None:
        """Take the task's object away, right after `reset`; nothing can succeed then."""
        ...

    def attempted(self) -> bool:
        """Whether the robot is going through its task's motion now, though the object is away."""
        ...

    def object_place(self) -> NDArray[np.floating[Any]]:
        """Where the task's object is, seen from the robot `(3,)` [m]."""
        ...

    def third_person(self, height: int, width: int) -> NDArray[np.uint8]:
        """A view from outside, uint8 `(height, width, 3)`."""
        ...

    def qpos_sha256(self) -> str:
        """Hash over all joint positions of the episode so far."""
        ...

    def describe(self) -> dict[str, Any]:
        """Initial poses of the episode."""
        ...


@dataclass(frozen=True)
class Pace:
    """How a chunk is executed: rows before the next request, and the delay of an answer [control steps]."""

    execute: int
    delay: int


@dataclass(frozen=True)
class Episode:
    """What came of one seed."""

    row: Row
    scene: dict[str, Any]
    detail: str = ""


class PolicyFaultError(Exception):
    """The policy itself is to blame for the end of an episode."""

    def __init__(self, tag: str, detail: str) -> None:
        super().__init__(detail)
        self.tag = tag


class ChunkedActions:
    """Asks the policy for chunks at the right steps and hands out one action per control step."""

    def __init__(self, policy: Policy, pace: Pace, rest: NDArray[np.float32]) -> None:
        self._policy = policy
        self._pace = pace
        self._current: NDArray[np.float32] = rest[None, :]
        self._position = 0
        self._coming: NDArray[np.float32] | None = None
        self._asked_at = 0
        self._next_request = 0

    def action(self, step: int, look: Callable[[NDArray[np.float32] | None, int], Observation]) -> NDArray[np.float32]:
        """The action `(36,)` of a control step; `look(previous_chunk, delay)` is called when the policy may look.

        Raises:
            PolicyFaultError: the policy raised, or its answer is not a chunk.
        """
        if self._coming is not None and step - self._asked_at >= self._pace.delay:
            self._take_over(step)
        if self._coming is None and step >= self._next_request:
            self._coming = self._ask(look(self._previous(step), self._pace.delay))
            self._asked_at = step
            self._next_request = step + min(self._pace.execute, len(self._coming))
            if self._pace.delay == 0:
                self._take_over(step)
        row = min(self._position, len(self._current) - 1)
        self._position += 1
        return self._current[row]

    def _take_over(self, step: int) -> None:
        assert self._coming is not None
        self._current, self._position, self._coming = self._coming, step - self._asked_at, None

    def _previous(self, step: int) -> NDArray[np.float32] | None:
        if step == 0:
            return None
        left = self._current[self._position :]
        return left if len(left) else self._current[-1:]

    def _ask(self, observation: Observation) -> NDArray[np.float32]:
        try:
            chunk = np.asarray(self._policy.act(observation), dtype=np.float32)
        except Exception as error:
            raise PolicyFaultError(POLICY_ERROR, f"step {observation.step}: {type(error).__name__}: {error}") from error
        if chunk.ndim != 2 or chunk.shape[1] != ACTION_SIZE or len(chunk) == 0:
            shape = f"chunk of shape {chunk.shape}, not (n, {ACTION_SIZE})"
            raise PolicyFaultError(INVALID_ACTION, f"step {observation.step}: {shape}")
        return chunk


def run_episode(
    world: World,
    policy: Policy,
    eyes: Eyes,
    seed: int,
    pace: Pace,
    film: Callable[[World], None] | None = None,
) -> Episode:
    """Run the episode of one seed to its end.

    Args:
        film: called after every control step, to take pictures; it must not touch the world's state.

    Raises:
        InvalidSeed: the initial state of this seed does not settle (raised by the world, before the policy acts).
        Exception: whatever else goes wrong in the world or here: a fault of the harness.
    """
    world.reset(seed)
    eyes.reset(seed, world)
    scene = json.loads(json.dumps(world.describe(), default=_plain))
    pixels = hashlib.sha256()
    actions = ChunkedActions(policy, pace, np.asarray(world.commanded, np.float32))

    def look(previous: NDArray[np.float32] | None, delay: int) -> Observation:
        image = eyes.image(world)
        pixels.update(image.tobytes())
        return Observation(image, world.state(), eyes.instruction(world), world.steps, previous, delay)

    def finish(success: bool, tag: str, detail: str = "") -> Episode:
        row = Row(
            seed=seed,
            success=success,
            tag=tag,
            steps=world.steps,
            qpos_sha256=world.qpos_sha256(),
            pixels_sha256=pixels.hexdigest(),
        )
        return Episode(row, scene, detail)

    try:
        try:
            policy.reset(seed)
        except Exception as error:
            raise PolicyFaultError(POLICY_ERROR, f"reset: {type(error).__name__}: {error}") from error
        for step in range(world.max_steps + 1):
            action = actions.action(step, look)
            outcome = world.step(action)
            eyes.step(action)
            if film is not None:
                film(world)
            ended = eyes.ends(world)
            if ended is not None:
                return finish(False, ended)
            if outcome is not None:
                tag = SUCCESS if outcome.success else outcome.tag
                return finish(bool(outcome.success), tag, str(getattr(outcome, "detail", "") or ""))
    except PolicyFaultError as fault:
        return finish(False, fault.tag, str(fault))
    return finish(False, TIMEOUT)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
