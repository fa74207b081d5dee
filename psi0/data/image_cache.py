"""Decoded images in one memory-mapped file, keyed by what they were decoded from; built once, shared by processes."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from psi0.progress import progress
from psi0.settings import settings

_THREADS = 2
_EPISODES_AT_ONCE = 4
_SPARE = 1 << 30
"""Bytes of disk that a cache must leave free."""

Decode = Callable[[NDArray[np.int64]], Iterator[NDArray[np.uint8]]]


def load_or_build(
    key: str, shape: tuple[int, int, int, int], episodes: list[tuple[int, int]], decode: Decode
) -> NDArray[np.uint8] | None:
    """The images uint8 `shape`, read-only and memory-mapped, or None when they do not fit.

    Args:
        key: identifies the content; another key is another file.
        shape: images, height, width, 3.
        episodes: half-open row ranges, decoded a few at a time.
        decode: yields the image of every row it is given (ascending).
    """
    folder = settings().home / "cache"
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', key)}.uint8"
    size = int(np.prod(shape, dtype=np.int64))
    if not _complete(path, size):
        if size > settings().cache_gib * (1 << 30):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not _complete(path, size):
                if shutil.disk_usage(folder).free < size + _SPARE:
                    print(
                        f"image cache: {size / 1e6:.0f} MB do not fit the disk; decoding on demand",
                        file=sys.stderr,
                    )
                    return None
                try:
                    _build(path, shape, episodes, decode)
                except OSError as error:
                    print(f"image cache: {path} cannot be written ({error}); decoding on demand", file=sys.stderr)
                    return None
    return np.memmap(path, np.uint8, "r", shape=shape)


def _complete(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _build(path: Path, shape: tuple[int, int, int, int], episodes: list[tuple[int, int]], decode: Decode) -> None:
    size = int(np.prod(shape, dtype=np.int64))
    print(f"image cache: {shape[0]} images, {size / 1e6:.0f} MB, in {path.parent}", file=sys.stderr, flush=True)
    for left_over in path.parent.glob(f"{path.stem}.*.tmp"):
        left_over.unlink(missing_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")

    def fill(target: NDArray[np.uint8], block: list[tuple[int, int]]) -> int:
        rows = np.concatenate([np.arange(start, end) for start, end in block])
        for row, image in zip(rows, decode(rows), strict=True):
            target[row] = image
        return len(rows)

    blocks = [episodes[i : i + _EPISODES_AT_ONCE] for i in range(0, len(episodes), _EPISODES_AT_ONCE)]
    try:
        with temporary.open("wb") as file:
            # Space that is missing must be an error here: writing into a mapped hole on a full disk kills the process.
            os.posix_fallocate(file.fileno(), 0, size)
        target = np.memmap(temporary, np.uint8, "r+", shape=shape)
        with progress("decoding images", shape[0]) as advance, ThreadPoolExecutor(_THREADS) as pool:
            for done in pool.map(partial(fill, target), blocks):
                advance(done)
        target.flush()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
