"""Text tokens: the built-in byte-level tokenizer, or Qwen's own from a folder. Needs `tokenizers` only."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from psi0.errors import Psi0Error

BUILT_IN = "bytes"
FILE = "text_tokenizer.json"
PAD = "<|endoftext|>"
IMAGE = "<|image_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
VIDEO = "<|video_pad|>"
SPECIAL_TOKENS = (PAD, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE, VIDEO)
"""The control tokens of Qwen3-VL's chat template that a prompt of ours uses."""

_WORDS = (
    "user assistant pick up put down push pull place take grab grasp reach lift carry move walk turn open close hold"
    " hand over insert remove pour wipe fold stack press rotate twist drop throw bring go stand stop look the a an it"
    " to from on onto in into off of at by with and then near next left right front back forward backward behind"
    " between under above top bottom middle side edge first second other one two red green blue yellow white black"
    " brown orange grey small large can cup bottle box bowl plate tray table cart shelf door drawer handle lid tool"
    " block ball disc mark basket bin object hand hands arm finger thumb robot person human towel cloth book pen key"
)
"""Words that get a token of their own; everything else is spelled in smaller pieces, down to single bytes."""


def built_in_tokenizer() -> Tokenizer:
    """A byte-level BPE over `_WORDS`: total on any text, a few hundred tokens, the same everywhere."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = sorted(set(_WORDS.split()))
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*words, *(f" {word}" for word in words)], trainer)
    return tokenizer


def make_text_tokenizer(source: str) -> Tokenizer:
    """The tokenizer that `tokenizer.text` names: `bytes`, or a folder that holds Qwen's `tokenizer.json`.

    Raises:
        Psi0Error: no such file, not a tokenizer, or the control tokens are missing.
    """
    if source == BUILT_IN:
        return built_in_tokenizer()
    return load_text_tokenizer(text_file(source))


def text_file(source: str) -> Path:
    """The file that `tokenizer.text` names; it exists unless that is `bytes` or wrong."""
    return Path(source) / "tokenizer.json"


def load_text_tokenizer(file: Path) -> Tokenizer:
    """Read a `tokenizer.json`. Raises `Psi0Error` when it is missing, broken, or lacks a control token."""
    if not file.is_file():
        raise Psi0Error(f"{file} is missing; set tokenizer.text to `bytes` or to a folder with Qwen's tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise Psi0Error(f"{file} is not a tokenizer ({error}); restore or download it again") from None
    missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    if missing:
        raise Psi0Error(f"{file} lacks the control tokens {', '.join(missing)}; take the tokenizer of a Qwen3-VL model")
    return tokenizer


def add_action_tokens(tokenizer: Tokenizer, count: int) -> int:
    """Add `<|a_0|>` to `<|a_{count-1}|>` behind the vocabulary; returns the id of the first.

    A tokenizer that has them already is left alone.
    """
    first = tokenizer.token_to_id("<|a_0|>")
    if first is None:
        first = tokenizer.get_vocab_size(with_added_tokens=True)
        tokenizer.add_special_tokens([AddedToken(f"<|a_{index}|>", special=True) for index in range(count)])
    return first


def control_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of the control tokens that a Qwen3-VL configuration names."""
    names = {
        "pad": PAD,
        "image": IMAGE,
        "video": VIDEO,
        "vision_start": VISION_START,
        "vision_end": VISION_END,
    }
    return {name: identity for name, token in names.items() if (identity := tokenizer.token_to_id(token)) is not None}
