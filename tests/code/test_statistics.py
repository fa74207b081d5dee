"""Statistics equal NumPy's over all rows, however the files and blocks are cut."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from psi0.data import statistics
from psi0.data.features import TASK_SPACE_NAMES
from psi0.data.statistics import QUANTILES, ImageStatistics, column_values, describe, describe_files, evenly_spaced


def write(folder: Path, rows: np.ndarray, cuts: list[int]) -> list[Path]:
    paths = []
    for number, part in enumerate(np.split(rows, cuts)):
        flat = pa.array(part[:, :-1].astype(np.float32).reshape(-1))
        table = pa.table({"a": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1] - 1), "valid": part[:, -1]})
        paths.append(folder / f"{number}.parquet")
        pq.write_table(table, paths[-1])
    return paths


@pytest.mark.parametrize("budget", [1 << 30, 1])
def test_files_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(statistics, "MEMORY_BUDGET", budget)
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(size=(500, 5)), random.integers(0, 2, (500, 1))], axis=1).astype(np.float32)
    paths = write(tmp_path, rows, [100, 101, 400])
    for valid, chosen in ((None, rows[:, :5]), ("valid", rows[rows[:, 5] > 0, :5])):
        found = describe_files(paths, "a", 5, valid)
        numbers = chosen.astype(np.float64)
        assert found["count"].tolist() == [len(chosen)]
        for name, share in QUANTILES.items():
            assert_allclose(found[name], np.quantile(numbers, share, axis=0))
        for name, function in (("min", np.min), ("max", np.max), ("mean", np.mean), ("std", np.std)):
            assert_allclose(found[name], function(numbers, axis=0), rtol=1e-12)


def test_rows_none_of_which_is_valid_count_all() -> None:
    assert describe(np.ones((4, 2)), np.zeros(4))["count"].tolist() == [4]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=12, max_size=60))
def test_image_statistics(values: list[int]) -> None:
    pixels = np.array(values[: len(values) // 12 * 12], np.uint8).reshape(-1, 2, 2, 3)
    whole, half = ImageStatistics(), ImageStatistics()
    for index, image in enumerate(pixels):
        (whole if index % 2 else half).add(image)
    whole.merge(half)
    found = whole.result()
    channels = pixels.reshape(-1, 3) / 255
    assert found["count"].tolist() == [len(pixels)]
    for name, function in (("min", np.min), ("max", np.max), ("mean", np.mean), ("std", np.std)):
        assert found[name].shape == (3, 1, 1)
        assert_allclose(found[name].ravel(), function(channels, axis=0), atol=1e-7)
    for name, share in QUANTILES.items():
        nearest = np.quantile(channels, share, axis=0, method="nearest")
        assert np.abs(found[name].ravel() - nearest).max() <= np.ptp(channels, axis=0).max()


def test_columns_of_every_shape() -> None:
    assert column_values(pa.chunked_array([[1, 2], [3]])).tolist() == [1, 2, 3]
    assert column_values(pa.chunked_array([[[1, 2]], [[3, 4]]])).tolist() == [[1, 2], [3, 4]]
    assert column_values(pa.chunked_array([[[[1], [2]]]])).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="differ in length"):
        column_values(pa.chunked_array([[[1, 2], [3]]]))
    with pytest.raises(ValueError, match="nulls"):
        column_values(pa.chunked_array([["a", None]]))


def test_samples_are_spread() -> None:
    assert (
        evenly_spaced(5, 16) == {0, 1, 2, 3, 4} and evenly_spaced(101, 3) == {0, 50, 100} and evenly_spaced(1, 4) == {0}
    )


def test_six_of_the_48_numbers_are_unused() -> None:
    """The published statistics have zero range exactly in dimensions 6 to 8 and 30 to 32."""
    unused = [index for index, name in enumerate(TASK_SPACE_NAMES) if "unused" in name]
    assert unused == [6, 7, 8, 30, 31, 32] and len(TASK_SPACE_NAMES) == 48
