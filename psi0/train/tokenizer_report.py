"""What FAST loses and how many tokens an action takes, on a prepared dataset, beside the published figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.model.fast import FastTokenizer
from psi0.model.normalizer import Scale
from psi0.model.tokenizer_folder import FAST_FOLDER, STATISTICS_FILE
from psi0.train.next_tokens import task_space

PUBLISHED_STATISTICS = "egodex_stat_all.json"
"""Beside the published FAST files: per-dimension statistics of EgoDex, under `egodex`."""
PAPER_ERROR, PAPER_TOKENS = 1.95e-4, "13.04 (Table II), about 20 (main text)"
"""Table II of the paper, refit tokenizer: mean absolute error in raw units, tokens per action."""


@dataclass(frozen=True)
class TokenizerReport:
    """Measurements over the actions of one dataset.

    Attributes:
        actions: how many were encoded.
        raw_error: mean absolute error after encoding and decoding [m and rad], over all 48 numbers.
        normalised_error: the same of normalised actions.
        clipped_share: share of numbers that lay outside the normalised range.
        tokens: tokens per action: mean, 5th and 95th percentile, largest.
        tokens_in_use: size of the vocabulary that BPE found.
    """

    actions: int
    raw_error: float
    normalised_error: float
    clipped_share: float
    tokens: tuple[float, float, float, float]
    tokens_in_use: int

    def lines(self) -> list[str]:
        """As a person reads it."""
        mean, low, high, largest = self.tokens
        return [
            f"actions                {self.actions}",
            f"mean absolute error    {self.raw_error:.2e} m or rad (paper: {PAPER_ERROR:.2e});"
            f" {self.normalised_error:.2e} of the normalised range",
            f"numbers clipped        {self.clipped_share:.2%}",
            f"tokens per action      {mean:.2f} mean, {low:.0f} to {high:.0f} for nine in ten, {largest:.0f} at most"
            f" (paper: {PAPER_TOKENS})",
            f"vocabulary in use      {self.tokens_in_use}",
        ]


def report(tokenizer: Path, dataset: Path, samples: int, seed: int = 0) -> TokenizerReport:
    """Encode and decode a dataset's stage-1 targets.

    Args:
        tokenizer: `models/tokenizer`, or a FAST folder with the published statistics.
        dataset: prepared dataset with 48 task-space numbers per frame.
        samples: actions at most, drawn by `seed`.

    Raises:
        Psi0Error: a folder without tokenizer, statistics or usable actions.
    """
    inner = tokenizer / FAST_FOLDER
    fast, scale = FastTokenizer.load(inner if inner.is_dir() else tokenizer), _scale(tokenizer)
    values, valid = task_space(LeRobotDataset(dataset))
    known = values[valid].astype(np.float64)
    if not len(known):
        raise Psi0Error(f"{dataset} holds no row with a stage-1 target")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(known))[:samples])
    raw = known[chosen]
    normal = scale.normalize(raw)
    tokens = fast.encode(normal[:, None])
    decoded = fast.decode(tokens)[:, 0]
    counts = np.array([len(ids) for ids in tokens])
    low, high = np.quantile(counts, [0.05, 0.95])
    outside = np.abs((raw - scale.center) / scale.half_range) > scale.clip
    return TokenizerReport(
        actions=len(raw),
        raw_error=float(np.abs(scale.denormalize(decoded) - raw).mean()),
        normalised_error=float(np.abs(decoded - normal).mean()),
        clipped_share=float(outside.mean()),
        tokens=(float(counts.mean()), float(low), float(high), float(counts.max())),
        tokens_in_use=fast.size,
    )


def _scale(folder: Path) -> Scale:
    """How the actions of a tokenizer folder are normalised: by our record, or by the published statistics."""
    if (folder / STATISTICS_FILE).is_file():
        return Scale.from_json(read_json(folder / STATISTICS_FILE)["scale"], str(folder / STATISTICS_FILE))
    file = folder / PUBLISHED_STATISTICS
    if not file.is_file():
        raise Psi0Error(
            f"{folder} holds neither {STATISTICS_FILE} nor {PUBLISHED_STATISTICS}: how are actions normalised?"
        )
    try:
        statistics = read_json(file)["egodex"]
        return Scale.fit(statistics["q01"], statistics["q99"], method="quantile")
    except (KeyError, TypeError) as error:
        raise Psi0Error(f"{file}: {error} is missing; `egodex` with `q01` and `q99` is needed") from None
