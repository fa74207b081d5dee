"""The tokenizer folder `models/tokenizer`: FAST tokens, text tokens, and the statistics of the 48 dimensions."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from psi0.errors import Psi0Error
from psi0.files import read_json, write_json, write_text
from psi0.model import text
from psi0.model.fast import FastTokenizer
from psi0.model.normalizer import Scale

FAST_FOLDER, STATISTICS_FILE = "fast", "action_scale.json"


@dataclass(frozen=True)
class Tokenizers:
    """What stage 1 needs to turn instructions and actions into tokens.

    Attributes:
        fast: FAST over normalised task-space actions `(n, 1, 48)`.
        text: text tokenizer that holds the action tokens.
        scale: quantile scale of the 48 task-space numbers (1st and 99th percentile to [-1, 1], clipped).
        first_action_id: text token id of FAST token 0.
    """

    fast: FastTokenizer
    text: Tokenizer
    scale: Scale
    first_action_id: int

    @classmethod
    def create(cls, fast: FastTokenizer, text_source: str, scale: Scale) -> "Tokenizers":
        """Add FAST's tokens to the text tokenizer named by `tokenizer.text` (`bytes`, or Qwen's folder)."""
        tokenizer = text.make_text_tokenizer(text_source)
        return cls(fast, tokenizer, scale, text.add_action_tokens(tokenizer, fast.vocabulary))

    def save(self, folder: Path) -> None:
        """Write `fast/`, `text_tokenizer.json` and `action_scale.json`."""
        self.fast.save(folder / FAST_FOLDER)
        write_text(folder / text.FILE, self.text.to_str(pretty=True))
        write_json(folder / STATISTICS_FILE, {"schema_version": 1, "scale": self.scale.to_json()})

    @classmethod
    def load(cls, folder: Path) -> "Tokenizers":
        """Read what `save` wrote. Raises `Psi0Error` naming the file that is missing or does not fit."""
        content = read_json(folder / STATISTICS_FILE)
        if content.get("schema_version") != 1:
            raise Psi0Error(f"{folder / STATISTICS_FILE}: unknown schema_version; run the tokenizer stage again")
        tokenizer = text.load_text_tokenizer(folder / text.FILE)
        first = tokenizer.token_to_id("<|a_0|>")
        if first is None:
            raise Psi0Error(f"{folder / text.FILE} holds no action tokens; run the tokenizer stage again")
        scale = Scale.from_json(content["scale"], str(folder / STATISTICS_FILE))
        return cls(FastTokenizer.load(folder / FAST_FOLDER), tokenizer, scale, first)
