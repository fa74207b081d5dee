"""What `psi0 tokenizer encode|decode` does: action values to FAST ids and back, through JSON files."""

from pathlib import Path
from typing import Any

import numpy as np

from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.model.fast import FastTokenizer
from psi0.model.tokenizer_folder import FAST_FOLDER


def _load(folder: Path) -> FastTokenizer:
    """A tokenizer folder of the pipeline, or a bare FAST folder such as the published one."""
    return FastTokenizer.load(folder / FAST_FOLDER if (folder / FAST_FOLDER).is_dir() else folder)


def _rows(file: Path, what: str) -> list[list[Any]]:
    rows = read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise Psi0Error(f"{file}: a JSON list of {what} is needed")
    return rows


def encode_file(tokenizer: Path, values: Path) -> list[list[int]]:
    """FAST ids per row of a JSON file of normalised actions (`horizon * dims` numbers in [-1, 1] each).

    Raises:
        Psi0Error: rows of another length, or numbers that are not in [-1, 1].
    """
    fast = _load(tokenizer)
    wanted = fast.horizon * fast.dims
    try:
        rows = np.array(_rows(values, f"lists of {wanted} numbers"), np.float64)
    except (ValueError, TypeError):
        raise Psi0Error(f"{values}: every row must hold {wanted} numbers") from None
    if rows.ndim != 2 or rows.shape[1] != wanted:
        raise Psi0Error(f"{values}: every row must hold {wanted} numbers, found shape {rows.shape}")
    if not (np.abs(rows) <= 1).all():
        raise Psi0Error(f"{values}: numbers must lie in [-1, 1]; normalise the actions first")
    return fast.encode(rows.reshape(-1, fast.horizon, fast.dims))


def decode_file(tokenizer: Path, values: Path) -> list[list[float]]:
    """Normalised actions, flat, per row of a JSON file of FAST ids. Raises `Psi0Error` for ids no action has."""
    rows = _rows(values, "lists of token ids")
    if not all(isinstance(token, int) for row in rows for token in row):
        raise Psi0Error(f"{values}: token ids must be whole numbers")
    decoded = _load(tokenizer).decode(rows)
    return [[round(float(number), 6) for number in row] for row in decoded.reshape(len(rows), -1)]
