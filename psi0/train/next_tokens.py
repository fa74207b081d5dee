"""Stage 1: System-2 learns the FAST tokens of the next hand motion, on EgoDex and then on Humanoid Everyday."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from psi0 import params
from psi0.data import features
from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.lineage import Lineage
from psi0.model.linear import use_bfloat16_products
from psi0.model.low_rank import add_low_rank, learn_new_parts, merge_low_rank
from psi0.model.manifest import write_manifest
from psi0.model.prompt import IGNORED, Prompt
from psi0.model.system2 import System2
from psi0.model.tokenizer_folder import Tokenizers
from psi0.train.augmentation import Augmentation
from psi0.train.engine import Batch
from psi0.train.frames import Frames
from psi0.train.optimizer import parameter_groups
from psi0.train.precision import BFLOAT16_LINEAR
from psi0.train.recipe import Phase, Recipe

UNIGRAM_SAMPLES = 4096
"""Training samples that unigram frequencies are counted on."""


def task_space(dataset: LeRobotDataset) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Stage-1 targets `(rows, 48)` of a dataset and which rows have one."""
    robot = dataset.has(features.TASK_SPACE)
    column, valid = (
        (features.TASK_SPACE, features.TASK_SPACE_VALID) if robot else (features.ACTION, features.ACTION_VALID)
    )
    values = dataset.column(column)
    if values.shape[1:] != (features.TASK_SPACE_SIZE,):
        raise Psi0Error(f"{dataset.folder}: column {column} has {values.shape[1:]} numbers, stage 1 needs 48")
    if not dataset.has(valid):
        return values, np.ones(len(values), np.bool_)
    return values, dataset.column(valid).reshape(-1) > 0.5


class TokenSamples(Frames):
    """Image, instruction and the FAST tokens to be predicted."""

    def __init__(
        self,
        name: str,
        dataset: LeRobotDataset,
        training: params.Training,
        tokenizers: Tokenizers,
        prompt: Prompt,
    ) -> None:
        actions, valid = task_space(dataset)
        super().__init__(name, dataset, training, valid)
        self.prompt, self._actions, self._tokenizers = prompt, actions, tokenizers

    def answers(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """FAST ids per row."""
        normal = self._tokenizers.scale.normalize(self._actions[rows])
        return self._tokenizers.fast.encode(normal[:, None])

    def batch(self, rows: NDArray[np.int64], augmentation: Augmentation | None) -> Batch:
        """`images` uint8 `(n, h, w, 3)`, `text_ids`, `text_mask`, `labels`, all `(n, length)`."""
        return token_batch([self], np.zeros(len(rows), np.int64), rows, augmentation)


def token_batch(
    samples: Sequence[TokenSamples],
    which: NDArray[np.int64],
    rows: NDArray[np.int64],
    augmentation: Augmentation | None,
) -> Batch:
    """One batch out of several datasets of one prompt and one image size.

    Args:
        samples: the datasets.
        which: number of the dataset of each sample `(n,)`.
        rows: its row there `(n,)`.
        augmentation: of the n samples.

    Returns:
        As `TokenSamples.batch`, in the order of `rows`.
    """
    images = np.empty((len(rows), *samples[0].dataset.image_shape), np.uint8)
    instructions: list[str] = [""] * len(rows)
    answers: list[list[int]] = [[]] * len(rows)
    for number in np.unique(which):
        own, places = samples[number], np.flatnonzero(which == number)
        here = rows[places]
        images[places] = own.images(here, None if augmentation is None else augmentation.part(places))
        for place, words, answer in zip(places, own.instructions(here), own.answers(here), strict=True):
            instructions[place], answers[place] = words, answer
    tokens = samples[0].prompt.answered(instructions, answers)
    assert tokens.labels is not None
    return {
        "images": torch.from_numpy(images),
        "text_ids": torch.from_numpy(tokens.ids),
        "text_mask": torch.from_numpy(tokens.mask),
        "labels": torch.from_numpy(tokens.labels),
    }


class NextTokens(nn.Module):
    """Cross entropy of the assistant's turn, and how often the likeliest token is the right one."""

    def __init__(self, system2: System2) -> None:
        super().__init__()
        self.system2 = system2

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` [nats per token], `per_sample`, `token_accuracy`."""
        found = self.system2.next_token_loss(batch["images"], batch["text_ids"], batch["text_mask"], batch["labels"])
        accuracy = (found.predicted == found.target).float().mean()
        return {"loss": found.loss, "per_sample": found.per_sample, "token_accuracy": accuracy}


class Pretraining(Recipe):
    """The recipe of stage 1."""

    stage = "pretrain"

    def __init__(self, everything: params.Params, egodex: Path, humanoid_everyday: Path, tokenizer: Path) -> None:
        own = everything.pretrain
        self.training = own
        tokenizers = Tokenizers.load(tokenizer)
        self.system2 = System2.create(
            everything.system2,
            camera=(everything.camera.height, everything.camera.width),
            tokenizer=tokenizers.text,
            action_tokens=tokenizers.fast.vocabulary,
            key_points=0,
            seed=own.seed,
        )
        if own.precision == BFLOAT16_LINEAR:
            use_bfloat16_products(self.system2)
        if own.lora_rank:
            add_low_rank(self.system2, own.lora_rank, own.lora_alpha, own.seed)
            learn_new_parts(self.system2)
        if own.gradient_checkpointing:
            self.system2.use_gradient_checkpointing()
        prompt = self.system2.make_prompt(tokenizers.text)
        switch = own.steps - own.humanoid_everyday_steps
        sources = [("egodex", egodex, 0, switch), ("humanoid_everyday", humanoid_everyday, switch, own.steps)]
        drawn = [source for source in sources if source[3] > source[2]] or sources[:1]
        self.phases = [
            Phase(begin, TokenSamples(name, LeRobotDataset(folder), own, tokenizers, prompt))
            for name, folder, begin, _ in drawn
        ]
        self.objective = NextTokens(self.system2)

    def groups(self) -> list[dict[str, Any]]:
        """All of System-2 that learns, the vision tower at its own rate."""
        vision = {id(value) for value in self.system2.parameter_groups()["vision"]}
        names = [name for name, value in self.objective.named_parameters() if id(value) in vision]
        return parameter_groups(self.objective, self.training, dict.fromkeys(names, self._own.vision_learning_rate))

    @property
    def _own(self) -> params.Pretrain:
        assert isinstance(self.training, params.Pretrain)
        return self.training

    def trivial(self) -> dict[str, float]:
        """Cross entropy of held-out tokens under the frequencies of training tokens, position ignored."""
        losses = {}
        for phase in self.phases:
            samples = phase.samples
            assert isinstance(samples, TokenSamples)
            losses[samples.name] = unigram_loss(samples, self.training.seed)
        return {"trivial_loss": float(np.mean(list(losses.values())))} | {
            f"trivial_loss_{name}": value for name, value in losses.items()
        }

    def write_result(self, folder: Path, origin: Lineage) -> None:
        """System-2's weights and sizes."""
        merge_low_rank(self.system2)
        self.system2.save(folder)
        write_manifest(folder)


def unigram_loss(samples: TokenSamples, seed: int) -> float:
    """Cross entropy of a dataset's held-out tokens under the frequencies of those to learn from [nats per token]."""
    source = np.random.default_rng([seed, 4])

    def tokens(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        chosen = source.permutation(rows)[:UNIGRAM_SAMPLES]
        labels = samples.prompt.answered([""] * len(chosen), samples.answers(chosen)).labels
        assert labels is not None
        return labels[labels != IGNORED]

    known, unseen = tokens(samples.training), tokens(samples.held_out)
    size = int(max(known.max(), unseen.max())) + 1
    # One added count keeps a token that training never showed from costing infinitely much.
    counts = np.bincount(known, minlength=size) + 1.0
    return float(-np.log(counts / counts.sum())[unseen].mean())
