"""Action chunks as samples of stages 2 and 3: image, instruction, state, the next actions, and key points."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from psi0 import params
from psi0.data import features
from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.model.normalizer import ACTION_CLIP, STATE_CLIP, Normalizer, Scale
from psi0.model.prompt import Prompt
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE
from psi0.train.augmentation import Augmentation
from psi0.train.engine import Batch
from psi0.train.feature_cache import Features
from psi0.train.frames import Frames, check_that_prompts_differ, prompt_tensors

KEY_POINT_NUMBERS = 5
SMALLEST_SPREAD = 0.02
"""Smallest standard deviation that key points are divided by [m, or image halves]."""


class ChunkSamples(Frames):
    """Chunks of `control.chunk` actions, `1 / control.policy_hz` apart, whatever the dataset's frame rate.

    A chunk that runs past the end of its episode repeats the last action.

    Args:
        name: of the dataset.
        dataset: with 36 actions and 32 state numbers.
        training: share of held-out episodes and seed.
        control: chunk length and rate.
        prompt: builder of the prompts; None leaves the instruction out, for networks that read none.
        meaning: `delta` learns the change since the action before instead of the action itself.
    """

    def __init__(
        self,
        name: str,
        dataset: LeRobotDataset,
        training: params.Training,
        control: params.Control,
        prompt: Prompt | None,
        meaning: Literal["absolute", "delta"] = "absolute",
    ) -> None:
        super().__init__(name, dataset, training)
        if prompt is not None:
            check_that_prompts_differ(dataset, prompt)
        self._prompt = prompt
        stride = dataset.fps / control.policy_hz
        if round(stride) < 1 or abs(stride - round(stride)) > 0.01 * stride:
            raise Psi0Error(
                f"{dataset.folder} has {dataset.fps:g} frames per second, not a multiple of control.policy_hz"
                f" {control.policy_hz}; change it to a divisor"
            )
        self._offsets = np.arange(control.chunk) * round(stride)
        self._meaning, self._stride = meaning, round(stride)
        self._states = _column(dataset, features.STATE, STATE_SIZE)
        self._actions = _column(dataset, features.ACTION, ACTION_SIZE)
        if meaning == "delta":
            before = np.maximum(np.arange(len(dataset)) - self._stride, self.first_rows)
            self._actions = self._actions - self._actions[before]
        self.action_mask = np.array(dataset.identity.get("action_mask", [1.0] * ACTION_SIZE), np.float32)
        self.state_mask = np.array(dataset.identity.get("state_mask", [1.0] * STATE_SIZE), np.float32)
        self.key_points = dataset.column(features.KEY_POINTS) if dataset.has(features.KEY_POINTS) else None
        self.normalizer: Normalizer | None = None
        self.features: Features | None = None

    def rows_of_chunks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Global rows `(n, chunk)` of the actions of chunks that begin at `rows`."""
        return np.minimum(rows[:, None] + self._offsets, self.last_rows[rows][:, None])

    def chunks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Actions `(n, chunk, 36)` in physical units. Past the end: the last action, or no change."""
        chosen = self.rows_of_chunks(rows)
        actions = self._actions[chosen]
        if self._meaning == "delta":
            actions = actions * (rows[:, None] + self._offsets == chosen)[..., None]
        return actions

    def states(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Normalised states `(n, 32)`, 0 where the dataset measures nothing."""
        assert self.normalizer is not None
        return self.normalizer.state.normalize(self._states[rows]) * self.state_mask

    def batch(self, rows: NDArray[np.int64], augmentation: Augmentation | None) -> Batch:
        """Normalised tensors.

        `images` uint8 `(n, h, w, 3)`; with a prompt `text_ids`, `text_mask` `(n, length)`; `state` `(n, 32)`;
        `actions` `(n, chunk, 36)`; `action_mask` `(n, 1, 36)`; `key_points` `(n, K * 5)` where the dataset has them.
        Once there are `features`, `hidden` `(n, length, hidden)` stands in place of `images`.
        """
        assert self.normalizer is not None
        state = self.states(rows)
        if augmentation is not None:
            state = state + augmentation.state * self.state_mask
        actions = self.normalizer.action.normalize(self.chunks(rows)) * self.action_mask
        text = {} if self._prompt is None else prompt_tensors(self._prompt, self.instructions(rows))
        batch = text | {
            **self._seen(rows, augmentation),
            "state": torch.from_numpy(state.astype(np.float32)),
            "actions": torch.from_numpy(actions.astype(np.float32)),
            "action_mask": torch.from_numpy(np.tile(self.action_mask, (len(rows), 1, 1))),
        }
        if self.key_points is not None and self.normalizer.key_points is not None:
            points = self.key_points[rows]
            if augmentation is not None:
                height, width = self.dataset.image_shape[:2]
                cut = points.reshape(len(rows), -1, KEY_POINT_NUMBERS)
                points = augmentation.key_points(cut, height, width).reshape(len(rows), -1)
            batch["key_points"] = torch.from_numpy(self.normalizer.key_points.normalize(points))
        return batch

    def _seen(self, rows: NDArray[np.int64], augmentation: Augmentation | None) -> Batch:
        if self.features is not None:
            return {"hidden": torch.from_numpy(self.features[rows])}
        return {"images": torch.from_numpy(self.images(rows, augmentation))}

    def hidden_inputs(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """What System-2 sees of frames: images uint8 `(n, h, w, 3)` and `text_ids` `(n, length)`."""
        assert self._prompt is not None, "networks without a prompt have no System-2"
        text_ids = prompt_tensors(self._prompt, self.instructions(rows))["text_ids"]
        return torch.from_numpy(self.images(rows, None)), text_ids

    @property
    def prompt_length(self) -> int:
        """Tokens of every prompt; 0 without one."""
        return 0 if self._prompt is None else self._prompt.length

    def fit_bounds(self, minimum_half_range: float) -> Normalizer:
        """Minimum and maximum to [-1, 1], as published for fine-tuning; key points standardised."""
        return Normalizer(
            Scale.fit(*_quantiles(self._states, 0), minimum_half_range=minimum_half_range, clip=STATE_CLIP),
            Scale.fit(*_quantiles(self._actions, 0), minimum_half_range=minimum_half_range, clip=ACTION_CLIP),
            self._standard_key_points(),
        )

    def fit_quantiles(self, minimum_half_range: float) -> Normalizer:
        """1st and 99th percentile to [-1, 1], clipped there, as published for post-training."""
        state, action = _quantiles(self._states, 0.01), _quantiles(self._actions, 0.01)
        return Normalizer(
            Scale.fit(*state, minimum_half_range=minimum_half_range, clip=STATE_CLIP, method="quantile"),
            Scale.fit(*action, minimum_half_range=minimum_half_range, method="quantile"),
        )

    def _standard_key_points(self) -> Scale | None:
        if self.key_points is None:
            return None
        points = self.key_points.astype(np.float64)
        spread = np.maximum(points.std(axis=0), SMALLEST_SPREAD)
        return Scale(points.mean(axis=0), spread, float("inf"), "identity")


def _quantiles(values: NDArray[np.float32], cut: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.quantile(values.astype(np.float64), [cut, 1 - cut], axis=0)
    return low, high


def _column(dataset: LeRobotDataset, name: str, size: int) -> NDArray[np.float32]:
    values = dataset.column(name)
    if values.shape[1:] != (size,):
        raise Psi0Error(f"{dataset.folder}: column {name} has {values.shape[1:]} numbers, the robot has {size}")
    return values.astype(np.float32)
