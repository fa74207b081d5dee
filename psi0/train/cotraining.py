"""Stage 2 with `cotrain`: both networks learn at once, System-1 actions and System-2 next tokens.

The paper pre-trains System-2 and freezes it, and argues that one stage for both would be worse; this is that one stage.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psi0 import params, paths
from psi0.data.dataset import LeRobotDataset
from psi0.lineage import Lineage
from psi0.model.manifest import write_manifest
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2
from psi0.model.tokenizer_folder import Tokenizers
from psi0.train.augmentation import Augmentation
from psi0.train.chunks import ChunkSamples
from psi0.train.engine import Batch
from psi0.train.flow_chunks import FlowObjective, Posttraining
from psi0.train.next_tokens import TokenSamples, token_batch, unigram_loss
from psi0.train.recipe import Phase

TOKENS = "tokens."
"""Prefix of the names of a batch's next-token half."""


class PairSamples:
    """Pairs of a chunk and a next-token sample, each with its own image, as one batch.

    In an epoch every sample of the more numerous kind is in one pair; the other kind is repeated. Which is paired with
    which follows from `seed`. A row is the number of a pair: first those to learn from, then those held out.

    Args:
        chunks: with a normaliser.
        tokens: of all datasets together, drawn by their number of frames.
        seed: of the pairing.
    """

    name = "actions and next tokens"

    def __init__(self, chunks: ChunkSamples, tokens: Sequence[TokenSamples], seed: int) -> None:
        self._chunks, self._tokens = chunks, tokens
        learned = _pairs(chunks.training, [one.training for one in tokens], seed)
        held_out = _pairs(chunks.held_out, [one.held_out for one in tokens], seed)
        self._pairs = np.concatenate([learned, held_out])
        self.training = np.arange(len(learned))
        self.held_out = np.arange(len(learned), len(self._pairs))

    def batch(self, rows: NDArray[np.int64], augmentation: Augmentation | None) -> Batch:
        """What `ChunkSamples.batch` returns, and what `TokenSamples.batch` does under names that begin `tokens.`.

        Both images of a pair are augmented alike.
        """
        chunk, dataset, frame = self._pairs[rows].T
        tokens = token_batch(self._tokens, dataset, frame, augmentation)
        return self._chunks.batch(chunk, augmentation) | {TOKENS + name: value for name, value in tokens.items()}

    def describe(self, row: int) -> str:
        """Both samples of a pair."""
        chunk, dataset, frame = self._pairs[row].tolist()
        return f"{self._chunks.describe(chunk)} beside {self._tokens[dataset].describe(frame)}"


def _pairs(chunks: NDArray[np.int64], tokens: Sequence[NDArray[np.int64]], seed: int) -> NDArray[np.int64]:
    """Pairs `(n, 3)`: row of a chunk, number of a token dataset, row in it."""
    source = np.random.default_rng([seed, 9])
    frames = np.concatenate([np.stack([np.full(len(rows), i), rows], axis=1) for i, rows in enumerate(tokens)])
    count = max(len(chunks), len(frames))
    # Shuffled, so that what is repeated comes from all episodes.
    chosen = np.resize(source.permutation(chunks), count)
    return np.column_stack([chosen, np.resize(source.permutation(frames), (count, 2))])


class CotrainingObjective(FlowObjective):
    """The flow loss through a System-2 that learns, plus that System-2's next-token loss."""

    def __init__(self, system2: System2, system1: ActionExpert, next_token_loss: float) -> None:
        super().__init__(system2, system1, max_delay=0, key_point_loss=0.0, frozen=False)
        self.next_token_loss = next_token_loss

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` and `per_sample` of both, `flow_loss`, `next_token_loss` [nats per token], `token_accuracy`."""
        answer = super().forward(batch, generator)
        images, ids, mask, labels = (batch[TOKENS + name] for name in ("images", "text_ids", "text_mask", "labels"))
        found = self.system2.next_token_loss(images, ids, mask, labels)
        return answer | {
            "loss": answer["loss"] + self.next_token_loss * found.loss,
            "per_sample": answer["per_sample"] + self.next_token_loss * found.per_sample,
            "next_token_loss": found.loss,
            "token_accuracy": (found.predicted == found.target).float().mean(),
        }


class Cotraining(Posttraining):
    """The recipe of stage 2 with `cotrain`."""

    def __init__(
        self, everything: params.Params, system2: Path, humanoid_everyday: Path, tokenizer: Path, egodex: Path
    ) -> None:
        super().__init__(everything, system2, humanoid_everyday, tokenizer)
        own = everything.posttrain
        self.system2.requires_grad_(True)
        tokenizers = Tokenizers.load(tokenizer)
        prompt = self.system2.make_prompt(tokenizers.text)
        datasets = {"egodex": LeRobotDataset(egodex), "humanoid_everyday": self.samples.dataset}
        self.tokens = [TokenSamples(name, dataset, own, tokenizers, prompt) for name, dataset in datasets.items()]
        self.phases = [Phase(0, PairSamples(self.samples, self.tokens, own.seed))]
        self.objective = CotrainingObjective(self.system2, self.system1, own.next_token_loss)
        if own.gradient_checkpointing:
            self.system2.use_gradient_checkpointing()

    def trivial(self) -> dict[str, float]:
        """As in stages 1 and 2, `trivial_loss` being the sum; next tokens by the frequencies of each dataset."""
        own = self.training
        assert isinstance(own, params.Posttrain)
        found = super().trivial()
        each = [unigram_loss(samples, own.seed) for samples in self.tokens]
        tokens = float(np.average(each, weights=[len(samples.held_out) for samples in self.tokens]))
        return found | {
            "trivial_loss": found["trivial_loss"] + own.next_token_loss * tokens,
            "trivial_flow_loss": found["trivial_loss"],
            "trivial_next_token_loss": tokens,
        }

    def write_result(self, folder: Path, origin: Lineage) -> None:
        """What stage 2 leaves, and System-2 in a folder of its own, as stage 1 leaves it."""
        inside = folder / paths.COTRAINED_SYSTEM2.name
        self.system2.save(inside)
        write_manifest(inside)
        super().write_result(folder, origin)
