"""Frames of a prepared dataset as samples: which are learned from, which are held out, and their prompts and images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.model.prompt import Prompt
from psi0.params import Training
from psi0.train import sampler
from psi0.train.augmentation import Augmentation


class Frames:
    """The frames of one dataset.

    Args:
        name: of the dataset, as people know it.
        dataset: where they come from.
        training: share of episodes held out, and the seed that picks them.
        usable: bool `(rows,)`, frames that may be samples; None means all.

    Raises:
        Psi0Error: no usable frame on one of the two sides.
    """

    def __init__(
        self, name: str, dataset: LeRobotDataset, training: Training, usable: NDArray[np.bool_] | None = None
    ) -> None:
        self.name, self.dataset = name, dataset
        self.first_rows = np.empty(len(dataset), np.int64)
        self.last_rows = np.empty(len(dataset), np.int64)
        held_out = np.zeros(len(dataset), np.bool_)
        chosen = sampler.held_out_episodes(len(dataset.episodes), training.validation_share, training.seed)
        for number, (start, end) in enumerate(dataset.episodes):
            self.first_rows[start:end], self.last_rows[start:end] = start, end - 1
            held_out[start:end] = number in chosen
        fine = np.ones(len(dataset), np.bool_) if usable is None else usable
        self.training = np.flatnonzero(fine & ~held_out)
        self.held_out = np.flatnonzero(fine & held_out)
        if not len(self.training) or not len(self.held_out):
            raise Psi0Error(
                f"{dataset.folder}: {len(dataset.episodes)} episodes leave no frames to learn from or to hold out;"
                " at least two usable episodes are needed"
            )

    def describe(self, row: int) -> str:
        """Dataset, episode and frame of a row."""
        return f"{self.name} episode {self.dataset.episode_of(row)} frame {row - self.first_rows[row]}"

    def images(self, rows: NDArray[np.int64], augmentation: Augmentation | None) -> NDArray[np.uint8]:
        """Head camera uint8 `(n, height, width, 3)`, augmented unless None."""
        images = self.dataset.images(rows)
        return np.ascontiguousarray(images if augmentation is None else augmentation.images(images))

    def instructions(self, rows: NDArray[np.int64]) -> list[str]:
        """What the robot or person was told."""
        return [self.dataset.instruction(int(row)) for row in rows]


def prompt_tensors(prompt: Prompt, instructions: Sequence[str]) -> dict[str, torch.Tensor]:
    """Prompts of static length as `text_ids` int64 and `text_mask` bool, both `(n, length)`."""
    tokens = prompt.batch(instructions, length=prompt.length)
    return {"text_ids": torch.from_numpy(tokens.ids), "text_mask": torch.from_numpy(tokens.mask)}


def check_that_prompts_differ(dataset: LeRobotDataset, prompt: Prompt) -> None:
    """Raise `Psi0Error` when two instructions of a dataset are cut to the same prompt: nobody could tell them apart."""
    said: dict[tuple[int, ...], str] = {}
    for instruction in dataset.tasks:
        first = said.setdefault(tuple(prompt.tokens(instruction)), instruction)
        if first.strip().lower() != instruction.strip().lower():
            raise Psi0Error(
                f"{dataset.folder}: system2.max_text_tokens {prompt.max_text_tokens} cuts {first!r} and {instruction!r}"
                " to the same prompt; raise it"
            )
