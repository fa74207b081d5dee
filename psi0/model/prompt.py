"""Prompts: Qwen3-VL's chat template around one image and the lower-cased instruction. NumPy and `tokenizers` only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from psi0.errors import Psi0Error
from psi0.model import text

IGNORED = -100
"""Label of a position that the next-token loss leaves out (the value torch and transformers use)."""


@dataclass(frozen=True)
class TokenBatch:
    """Prompts, right-padded to a common length.

    Attributes:
        ids: int64 `(batch, length)`.
        mask: bool `(batch, length)`, False on padding.
        labels: int64 `(batch, length)`: the token at the same position where it is to be predicted, else `IGNORED`;
            None for prompts without an answer.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    labels: NDArray[np.int64] | None = None


class Prompt:
    """Builds token sequences: user turn (image, instruction), then an assistant turn to be generated.

    The image tokens always stand at `image_start`, so that networks and exported graphs have static shapes.

    Attributes:
        image_start: index of the first image token.
        image_tokens: tokens of one image.
        max_text_tokens: all other tokens of the longest prompt.
        length: `image_tokens + max_text_tokens`, the static length of an exported prompt.
        first_action_id: id of FAST token 0, or None when the tokenizer holds none.
    """

    def __init__(self, tokenizer: Tokenizer, image_tokens: int, max_text_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.image_tokens = image_tokens
        self.max_text_tokens = max_text_tokens
        self.first_action_id: int | None = tokenizer.token_to_id("<|a_0|>")
        one = self._special
        self._before = [one(text.TURN_START), *self._plain("user\n"), one(text.VISION_START)]
        self._after = [
            one(text.TURN_END),
            *self._plain("\n"),
            one(text.TURN_START),
            *self._plain("assistant\n"),
        ]
        self._answer_end = [one(text.TURN_END), *self._plain("\n")]
        self._image, self._vision_end = [one(text.IMAGE)] * image_tokens, one(text.VISION_END)
        self.pad_id = one(text.PAD)
        self.image_start = len(self._before)
        self.length = image_tokens + max_text_tokens
        if self._room < 1:
            raise Psi0Error(
                f"system2.max_text_tokens is {max_text_tokens}: the prompt's frame alone takes"
                f" {max_text_tokens - self._room}; raise it"
            )

    @property
    def _room(self) -> int:
        return self.max_text_tokens - len(self._before) - 1 - len(self._after)

    def tokens(self, instruction: str) -> list[int]:
        """Ids of the prompt for an instruction, not padded. What exceeds `max_text_tokens` is cut off its end.

        Control tokens spelled out in the instruction are read as plain text.
        """
        words = self._plain(instruction.strip().lower())[: self._room]
        return [*self._before, *self._image, self._vision_end, *words, *self._after]

    def batch(self, instructions: Sequence[str], *, length: int | None = None) -> TokenBatch:
        """Prompts up to where the assistant begins, padded to `length` or, if None, to the longest among them."""
        return self._pad([(self.tokens(instruction), None) for instruction in instructions], length)

    def answered(self, instructions: Sequence[str], answers: Sequence[Sequence[int]]) -> TokenBatch:
        """Prompts followed by FAST tokens as the assistant's turn, with labels on that turn alone.

        Args:
            instructions: one per sample.
            answers: FAST ids (0 to vocabulary - 1) per sample.

        Raises:
            Psi0Error: the text tokenizer holds no action tokens.
        """
        if self.first_action_id is None:
            raise Psi0Error("the text tokenizer holds no action tokens; run the tokenizer stage")
        rows: list[tuple[list[int], list[int] | None]] = []
        for instruction, answer in zip(instructions, answers, strict=True):
            turn = [self.first_action_id + token for token in answer] + self._answer_end
            rows.append((self.tokens(instruction), turn))
        return self._pad(rows, None)

    def _pad(self, rows: list[tuple[list[int], list[int] | None]], length: int | None) -> TokenBatch:
        longest = max(len(prompt) + len(answer or []) for prompt, answer in rows)
        ids = np.full((len(rows), length or longest), self.pad_id, np.int64)
        mask = np.zeros(ids.shape, np.bool_)
        labels = np.full(ids.shape, IGNORED, np.int64)
        for row, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer or [])
            ids[row, :end] = prompt + (answer or [])
            mask[row, :end] = True
            labels[row, len(prompt) : end] = answer or []
        return TokenBatch(ids, mask, labels if rows and rows[0][1] is not None else None)

    def _special(self, token: str) -> int:
        identity = self.tokenizer.token_to_id(token)
        if identity is None:
            raise Psi0Error(f"the text tokenizer lacks the control token {token}; take the one of a Qwen3-VL model")
        return identity

    def _plain(self, words: str) -> list[int]:
        self.tokenizer.encode_special_tokens = True
        return self.tokenizer.encode(words, add_special_tokens=False).ids
