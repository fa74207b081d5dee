"""What a policy is, for everything that runs one: an observation in, a chunk of actions out."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Observation:
    """What a policy may look at when it is asked for the next chunk.

    Attributes:
        head_camera: uint8 `(height, width, 3)`, RGB, the latest frame.
        state: float32 `(32,)`, in the order of `psi0.robot.layout.STATE_NAMES` [rad, m].
        instruction: what the robot is told, in plain words.
        step: control steps since the episode began.
        previous_chunk: float32 `(n, 36)`: the part of the last chunk not yet executed, its first row the action of
            this very step; None at the start of an episode.
        delay: control steps that will pass until the first action of the answer can be executed. Rows
            `[0:delay]` of `previous_chunk` are executed meanwhile whatever the answer says.
    """

    head_camera: NDArray[np.uint8]
    state: NDArray[np.float32]
    instruction: str
    step: int
    previous_chunk: NDArray[np.float32] | None
    delay: int


@runtime_checkable
class Policy(Protocol):
    """Anything that acts: torch, ONNX Runtime, a remote server, another project's model, a demonstrator.

    `privileged` is True for policies that read the simulator's state; the gate refuses to judge them.
    """

    privileged: bool

    def reset(self, seed: int) -> None:
        """Forget the last episode; `seed` decides all noise of the next one."""
        ...

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the next action chunk `(n, 36)` of absolute targets, row 0 belonging to `observation.step`."""
        ...
