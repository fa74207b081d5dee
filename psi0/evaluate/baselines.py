"""Policies that learned nothing: what every judged policy must be told apart from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.policy import Observation
from psi0.robot.layout import ACTION_SIZE, ActionPart


def holding_action(state: NDArray[np.float32]) -> NDArray[np.float32]:
    """The action `(36,)` that keeps a robot of state `(32,)` where it is: joints as measured, no velocity."""
    action = np.zeros(ACTION_SIZE, np.float32)
    action[: state.size] = state
    return action


class Zero:
    """Stands still with every upper-body joint at 0 rad, at the height it began with."""

    privileged = False

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self._action: NDArray[np.float32] | None = None

    def reset(self, seed: int) -> None:
        """Forget the height."""
        self._action = None

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The same action `(chunk, 36)`, always."""
        if self._action is None:
            self._action = self._first_action(observation)
        return np.repeat(self._action[None, :], self._chunk, axis=0)

    def _first_action(self, observation: Observation) -> NDArray[np.float32]:
        action = holding_action(observation.state)
        action[ActionPart.UPPER_BODY] = 0.0
        action[ActionPart.TORSO] = 0.0
        return action


class Frozen(Zero):
    """Stands still with every joint where the first observation found it."""

    def _first_action(self, observation: Observation) -> NDArray[np.float32]:
        return holding_action(observation.state)


class Replay:
    """Plays recorded actions back, whatever it sees; stands still afterwards."""

    privileged = False

    def __init__(self, actions: NDArray[np.float32], chunk: int) -> None:
        self._actions = actions
        self._chunk = chunk

    def reset(self, seed: int) -> None:
        """Nothing to forget: the step of the observation says where it is."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Rows `(chunk, 36)` of the recording from this step on."""
        rows = np.arange(observation.step, observation.step + self._chunk)
        chunk = self._actions[np.minimum(rows, len(self._actions) - 1)].copy()
        chunk[rows >= len(self._actions), ActionPart.VELOCITY] = 0.0
        return chunk


def read_actions(source: str) -> NDArray[np.float32]:
    """Recorded actions `(n, 36)`: a JSON list of rows, or `DATASET#EPISODE` of a prepared dataset (default 0).

    Raises:
        Psi0Error: the file is missing, holds something else, or has no such episode.
    """
    name, _, episode = source.partition("#")
    path = Path(name)
    if path.is_dir():
        return _episode_actions(path, episode)
    try:
        content: Any = json.loads(path.read_text())
        actions = np.asarray(content, dtype=np.float32)
    except FileNotFoundError:
        raise Psi0Error(f"replay: {path} does not exist; name a JSON list of actions or a prepared dataset") from None
    except (ValueError, TypeError) as error:
        raise Psi0Error(f"replay: {path} is not a JSON list of actions: {error}") from None
    if actions.ndim != 2 or actions.shape[1] != ACTION_SIZE or len(actions) == 0:
        raise Psi0Error(f"replay: {path} holds an array of shape {actions.shape}, not (n, {ACTION_SIZE})")
    return actions


def _episode_actions(folder: Path, episode: str) -> NDArray[np.float32]:
    from psi0.data.dataset import LeRobotDataset

    dataset = LeRobotDataset(folder)
    start, end = dataset.episodes[dataset.find_episode(episode)]
    return np.asarray(dataset.column("action")[start:end], dtype=np.float32)
