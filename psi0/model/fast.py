"""FAST action tokens (arXiv 2501.09747): quantised DCT coefficients as characters, packed by BPE. `tokenizers` only.

At horizon 1, which the published stage 1 uses, the DCT is the identity and FAST is a quantiser with BPE over the 48
numbers of one action. File names and layout are those of the published tokenizer.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, trainers

from psi0.errors import Psi0Error
from psi0.files import read_json, write_json, write_text

TOKENIZER_FILE, SETTINGS_FILE = "tokenizer.json", "processor_config.json"


class FastDecodeError(Psi0Error):
    """Token ids that no action has: an id outside the vocabulary, or not `horizon * dims` coefficients."""


def dct_matrix(horizon: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II `(horizon, horizon)`; its transpose is its inverse."""
    steps = np.arange(horizon)
    matrix = np.cos(np.pi * (steps + 0.5) * steps[:, None] / horizon) * np.sqrt(2 / horizon)
    matrix[0] /= np.sqrt(2)
    return matrix


class FastTokenizer:
    """Turns normalised actions `(n, horizon, dims)` into token ids and back.

    Attributes:
        horizon: actions per chunk.
        dims: numbers per action.
        scale: quantisation steps per unit.
        min_token: the coefficient that character 0 stands for.
        vocabulary: number of token ids (the published size; ids lie below it).
    """

    def __init__(
        self, tokenizer: Tokenizer, *, horizon: int, dims: int, scale: int, min_token: int, vocabulary: int
    ) -> None:
        self._tokenizer = tokenizer
        self.horizon, self.dims, self.scale = horizon, dims, scale
        self.min_token, self.vocabulary = min_token, vocabulary
        self._dct = dct_matrix(horizon)

    @classmethod
    def fit(cls, actions: NDArray[np.floating], *, vocabulary: int, scale: int) -> "FastTokenizer":
        """Fit BPE on normalised actions `(n, horizon, dims)`.

        The alphabet covers every coefficient that actions in [-1, 1] can have, so that `encode` is total.

        Raises:
            Psi0Error: actions that are not finite, or a vocabulary smaller than the alphabet.
        """
        _check(actions)
        horizon, dims = actions.shape[1:]
        limit = int(np.ceil(scale * np.sqrt(horizon)))
        size = 2 * limit + 1
        if vocabulary < size:
            raise Psi0Error(
                f"tokenizer.vocabulary {vocabulary} is smaller than the {size} quantisation levels of"
                f" tokenizer.scale {scale}; raise the one or lower the other"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.decoder = decoders.Fuse()
        fitted = cls(tokenizer, horizon=horizon, dims=dims, scale=scale, min_token=-limit, vocabulary=vocabulary)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            initial_alphabet=[chr(level) for level in range(size)],
            special_tokens=[],
            show_progress=False,
        )
        tokenizer.train_from_iterator(fitted._texts(actions), trainer)
        return fitted

    def encode(self, actions: NDArray[np.floating]) -> list[list[int]]:
        """Token ids per chunk of normalised actions `(n, horizon, dims)`; values beyond the alphabet are clipped.

        Raises:
            Psi0Error: another horizon or number of dimensions, or values that are not finite.
        """
        _check(actions)
        if actions.shape[1:] != (self.horizon, self.dims):
            raise Psi0Error(f"actions {actions.shape}: this tokenizer takes (n, {self.horizon}, {self.dims})")
        return [encoding.ids for encoding in self._tokenizer.encode_batch(self._texts(actions))]

    def decode(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Normalised actions `(n, horizon, dims)` of token ids.

        Raises:
            FastDecodeError: an unknown id, or ids that spell more or fewer than `horizon * dims` coefficients.
        """
        wanted = self.horizon * self.dims
        coefficients = np.empty((len(tokens), wanted))
        for row, ids in enumerate(tokens):
            unknown = [token for token in ids if token < 0 or self._tokenizer.id_to_token(int(token)) is None]
            if unknown:
                raise FastDecodeError(f"sequence {row}: no FAST token has id {unknown[0]} (ids lie below {self.size})")
            spelled = self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=False)
            if len(spelled) != wanted:
                raise FastDecodeError(f"sequence {row}: {len(spelled)} coefficients instead of {wanted}")
            coefficients[row] = [ord(character) + self.min_token for character in spelled]
        blocks = coefficients.reshape(-1, self.horizon, self.dims) / self.scale
        return np.einsum("ft,nfd->ntd", self._dct, blocks).astype(np.float32)

    @property
    def size(self) -> int:
        """Token ids in use; at most `vocabulary` (BPE may run out of repeated pairs)."""
        return self._tokenizer.get_vocab_size()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `processor_config.json`, named as in the published tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / TOKENIZER_FILE, self._tokenizer.to_str(pretty=True))
        settings = {
            "action_dim": self.dims,
            "time_horizon": self.horizon,
            "scale": self.scale,
            "min_token": self.min_token,
            "vocab_size": self.vocabulary,
        }
        write_json(folder / SETTINGS_FILE, settings)

    @classmethod
    def load(cls, folder: Path) -> "FastTokenizer":
        """Read a tokenizer, ours or the published one. Raises `Psi0Error` naming the file that does not fit."""
        settings = read_json(folder / SETTINGS_FILE)
        file = folder / TOKENIZER_FILE
        if not file.is_file():
            raise Psi0Error(f"{file} is missing; run the tokenizer stage")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:
            raise Psi0Error(f"{file} is not a tokenizer ({error}); rebuild it") from None
        try:
            return cls(
                tokenizer,
                horizon=int(settings["time_horizon"]),
                dims=int(settings["action_dim"]),
                scale=int(settings["scale"]),
                min_token=int(settings["min_token"]),
                vocabulary=int(settings["vocab_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Psi0Error(f"{folder / SETTINGS_FILE}: field {error} is missing or not a number") from None

    def _texts(self, actions: NDArray[np.floating]) -> list[str]:
        """Quantised coefficients, lowest frequency of all dimensions first, one character each."""
        coefficients = np.einsum("ft,ntd->nfd", self._dct, actions.astype(np.float64))
        levels = np.rint(coefficients * self.scale).astype(np.int64) - self.min_token
        # Beyond twice the lower bound lies no level that the fit has seen.
        flat = np.clip(levels, 0, -2 * self.min_token).reshape(len(actions), -1)
        return ["".join(map(chr, row)) for row in flat.tolist()]


def _check(actions: NDArray[np.floating]) -> None:
    if actions.ndim != 3 or not np.isfinite(actions).all():
        raise Psi0Error(f"actions {actions.shape} must be finite numbers of shape (n, horizon, dims)")
