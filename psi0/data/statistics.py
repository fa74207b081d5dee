"""Statistics per feature, as LeRobot v3.0 names them: min, max, mean, std, count, q01, q10, q50, q90, q99.

Numbers are exact: quantiles are taken over all rows (merging quantiles of episodes would be wrong), reading Parquet
only, as many channels at a time as fit a memory budget. Image statistics come from a sample of frames.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MEMORY_BUDGET = 1 << 30
"""Bytes of one feature held at a time while quantiles are taken."""

Statistics = dict[str, NDArray[Any]]


def describe(rows: NDArray[Any], valid: NDArray[Any] | None = None) -> Statistics:
    """Statistics over the first axis of `(n,)` or `(n, size)`; every entry has shape `(size,)`, count `(1,)`.

    Rows where `valid` `(n,)` is 0 do not count, unless that leaves none.
    """
    table = rows.reshape(len(rows), -1)
    if valid is not None and valid.any():
        table = table[valid.reshape(len(rows)) > 0]
    numbers = table.astype(np.float64)
    quantiles = np.quantile(numbers, list(QUANTILES.values()), axis=0)
    return {
        "min": table.min(axis=0),
        "max": table.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(table)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def column_values(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """A Parquet column as `(n,)` for scalars or `(n, size)` for (possibly nested) lists.

    Raises:
        ValueError: the lists differ in length, or hold nulls.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    rows = len(array)
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype == object:
        raise ValueError("holds nulls or values that are not numbers")
    if rows and len(values) % rows:
        raise ValueError("its lists differ in length")
    return values if len(values) == rows else values.reshape(rows, -1)


def describe_files(files: Iterable[Path], column: str, size: int, valid: str | None = None) -> Statistics:
    """`describe` over one column of many Parquet files together, a block of channels at a time.

    `valid` names the column that tells which rows count.
    """
    paths = list(files)

    def read(path: Path, name: str) -> NDArray[Any]:
        values = column_values(pq.read_table(path, columns=[name], memory_map=True).column(name))
        return values.reshape(len(values), -1)

    counts = np.concatenate([read(path, valid) for path in paths]) if valid else None
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    block = max(1, min(size, MEMORY_BUDGET // max(1, rows * 8)))
    parts = []
    for start in range(0, size, block):
        pieces = [read(path, column)[:, start : start + block] for path in paths]
        parts.append(describe(np.concatenate(pieces), counts))
    return {
        key: value if key == "count" else np.concatenate([part[key] for part in parts])
        for key, value in parts[0].items()
    }


class ImageStatistics:
    """Exact statistics per colour channel over the frames it is shown, through a histogram of byte values.

    Results have shape `(3, 1, 1)` and lie in [0, 1]; `count` is the number of frames seen.
    """

    def __init__(self) -> None:
        self._histogram = np.zeros((3, 256), np.int64)
        self._frames = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """Count the pixels of one image `(height, width, 3)`."""
        for channel in range(3):
            self._histogram[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
        self._frames += 1

    def merge(self, other: "ImageStatistics") -> None:
        """Count what another one has seen too."""
        self._histogram += other._histogram
        self._frames += other._frames

    def result(self) -> Statistics:
        """The statistics. At least one image must have been added."""
        levels = np.arange(256) / 255.0
        pixels = self._histogram.sum(axis=1, keepdims=True)
        shares = self._histogram / pixels
        mean = shares @ levels
        seen = [np.flatnonzero(row) for row in self._histogram]
        cumulative = np.cumsum(self._histogram, axis=1)

        def per_channel(values: Iterable[float]) -> NDArray[np.float64]:
            return np.array(list(values), np.float64).reshape(3, 1, 1)

        def quantile(share: float) -> NDArray[np.float64]:
            ranks = share * (pixels[:, 0] - 1)
            return per_channel(levels[np.searchsorted(cumulative[c], ranks[c] + 0.5)] for c in range(3))

        return {
            "min": per_channel(levels[row[0]] for row in seen),
            "max": per_channel(levels[row[-1]] for row in seen),
            "mean": per_channel(mean),
            "std": per_channel(np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))),
            "count": np.array([self._frames]),
            **{name: quantile(share) for name, share in QUANTILES.items()},
        }


def to_json(statistics: dict[str, Statistics]) -> dict[str, dict[str, Any]]:
    """Statistics as nested lists of numbers."""
    return {name: {key: value.tolist() for key, value in entry.items()} for name, entry in statistics.items()}


def evenly_spaced(total: int, wanted: int) -> set[int]:
    """At most `wanted` positions spread over `range(total)`, the ends included."""
    return {round(float(position)) for position in np.linspace(0, total - 1, min(total, wanted))}
