"""Baselines as policies."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from psi0.baselines.config import NETWORKS, BaselineConfig
from psi0.baselines.folder import Baseline, load_baseline
from psi0.baselines.nearest import Demonstrations, Matcher
from psi0.baselines.networks import with_weights
from psi0.errors import Psi0Error
from psi0.policy import Observation, Policy


def load_player(folder: Path) -> Policy:
    """The policy in a baseline's folder. Raises `Psi0Error` when it cannot be loaded."""
    return player(load_baseline(folder))


def player(baseline: Baseline) -> Policy:
    """The policy of a baseline in memory."""
    return NetworkPolicy(baseline) if baseline.config.kind in NETWORKS else NearestPolicy(baseline)


class NetworkPolicy:
    """ACT or behaviour cloning: one forward pass per chunk; ACT may average it with the chunks before."""

    privileged = False

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._network = with_weights(baseline.config, baseline.tensors)
        settings = baseline.config.settings
        averages = baseline.config.kind == "act" and settings.temporal_ensemble
        self._ensemble = TemporalEnsemble(settings.ensemble_decay) if averages else None

    def reset(self, seed: int) -> None:
        """Forget the last episode; nothing is drawn."""
        if self._ensemble is not None:
            self._ensemble = TemporalEnsemble(self._ensemble.decay)

    @torch.no_grad()
    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next chunk `(horizon, 36)` in physical units. Raises `Psi0Error` for an image of another size."""
        config, normalizer = self._baseline.config, self._baseline.normalizer
        check_image(config, observation.head_camera)
        image = torch.from_numpy(np.ascontiguousarray(observation.head_camera))[None]
        state = torch.from_numpy(normalizer.state.normalize(observation.state))[None]
        chunk = self._network(image, state)[0].numpy()
        if self._ensemble is not None:
            chunk = self._ensemble.add(observation.step, chunk)
        return self._baseline.layout.within_limits(normalizer.action.denormalize(chunk))


class TemporalEnsemble:
    """What all chunks so far say of each step, averaged; the oldest weighs most (ACT, section IV-A)."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._chunks: list[tuple[int, NDArray[np.float32]]] = []

    def add(self, step: int, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take in the chunk `(n, numbers)` that begins at `step`, and return the averages in its place."""
        self._chunks = [(start, known) for start, known in self._chunks if start + len(known) > step]
        self._chunks.append((step, chunk))
        averages = np.empty_like(chunk)
        for row in range(len(chunk)):
            said = [known[step + row - start] for start, known in self._chunks if step + row - start < len(known)]
            weights = np.exp(-self.decay * np.arange(len(said)))
            averages[row] = np.average(said, axis=0, weights=weights)
        return averages


class NearestPolicy:
    """Replays what was done in the demonstrated moment nearest to what it sees.

    `nearest` looks once, at the beginning, and replays that demonstration, from its first action on when the first
    answer can be executed. `nearest_rematch` looks again for every chunk, at all moments of all demonstrations.
    """

    privileged = False

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._demonstrations = Demonstrations.from_tensors(baseline.tensors)
        self._nearest = Matcher(self._demonstrations, baseline.config.settings.match_state_weight)
        self._moment: int | None = None
        self._began = 0

    def reset(self, seed: int) -> None:
        """Forget the last match; nothing is drawn."""
        self._moment = None

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next chunk `(horizon, 36)` in physical units. Raises `Psi0Error` for an image of another size."""
        config = self._baseline.config
        check_image(config, observation.head_camera)
        again = config.kind == "nearest_rematch"
        if self._moment is None or again:
            state = self._baseline.normalizer.state.normalize(observation.state)
            self._moment = self._nearest(observation.head_camera, state)
            self._began = observation.step + (0 if again else observation.delay)
        steps = np.maximum(observation.step + np.arange(config.horizon) - self._began, 0)
        chunk = self._demonstrations.actions_from(self._moment, steps * config.stride)
        return self._baseline.layout.within_limits(chunk)


def check_image(config: BaselineConfig, image: NDArray[np.uint8]) -> None:
    """Raise `Psi0Error` for an image of another size than the baseline knows."""
    known = (config.camera_height, config.camera_width, 3)
    if image.shape != known:
        raise Psi0Error(
            f"baseline {config.kind} knows images of {known}, not {image.shape}; make it again from demonstrations"
            " recorded with the camera of params.yaml"
        )
