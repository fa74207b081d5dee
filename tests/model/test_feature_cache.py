"""Cached features of a frozen System-2: the same losses, written once, never believed when broken."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learnable import quick_chunks, quick_workspace, tiny_params
from numpy.typing import NDArray
from two_ranks import train_on_two_ranks

from psi0.errors import Psi0Error
from psi0.params import parse_params
from psi0.settings import settings
from psi0.train import feature_cache, stage
from psi0.train.team import Team

ALONE = Team(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_workspace(tmp_path_factory.mktemp("features")) as root:
        yield root


def cached(on: bool, **finetune: Any) -> Any:
    """Both stages with System-2 frozen."""
    plain = quick_chunks(cache_features=on)
    return tiny_params(posttrain=plain, finetune={**plain, "tune_system2": False, **finetune})


def losses(folder: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(folder, "history.jsonl").read_text().splitlines()]


def close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> bool:
    return len(found) == len(expected) and all(
        row.keys() == other.keys() and all(row[name] == pytest.approx(other[name], rel=1e-4) for name in row)
        for row, other in zip(found, expected, strict=True)
    )


def test_post_training_has_the_same_losses_and_a_second_run_computes_nothing(
    workspace: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = losses("models/system1")
    stage.posttrain(cached(True), in_process=True)
    assert close(losses("models/system1"), expected)
    said = capfd.readouterr().err
    assert "features of System-2: 0.00" in said and "GiB (90 frames of" in said
    monkeypatch.setattr(feature_cache, "_build", None)
    for run in Path(".psi0/checkpoints/posttrain").glob("*/step-*"):
        (run / "manifest.json").unlink()
    stage.posttrain(cached(True), in_process=True)
    assert close(losses("models/system1"), expected)
    assert "features of System-2" not in capfd.readouterr().err


def test_fine_tuning_has_the_same_losses_key_points_included(workspace: Path) -> None:
    stage.finetune(cached(False), "pick_can", in_process=True)
    expected = losses("models/policy/pick_can")
    assert "key_point_loss" in expected[-1]
    stage.finetune(cached(True), "pick_can", in_process=True)
    assert close(losses("models/policy/pick_can"), expected)


@pytest.mark.long
def test_two_ranks_write_what_one_rank_reads(workspace: Path) -> None:
    stage.posttrain(cached(True), in_process=True)
    (alone,) = [path for path in Path(".psi0/features").iterdir() if "humanoid_everyday" in made_from(path)]
    expected = b"".join(path.read_bytes() for path in sorted(alone.glob("*.raw")))
    shutil.rmtree(alone)
    plain = quick_chunks(cache_features=True, ranks=2)
    train_on_two_ranks(stage.posttrain_job(tiny_params(posttrain=plain)), workspace / "two")
    assert len(list(alone.glob("*.raw"))) == 2
    assert b"".join(path.read_bytes() for path in sorted(alone.glob("*.raw"))) == expected


def made_from(folder: Path) -> dict[str, str]:
    return json.loads((folder / feature_cache.RECORD).read_text())["made_from"]


def test_more_than_the_limit_is_refused_before_anything_is_written(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSI0_FEATURE_CACHE_GIB", "0.0001")
    monkeypatch.setenv("PSI0_HOME", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(Psi0Error, match=r"GiB .* exceed PSI0_FEATURE_CACHE_GIB 0\.0001; raise it"):
        stage.posttrain(cached(True), in_process=True)
    assert not (tmp_path / "features").exists()
    monkeypatch.undo()
    os.chdir(workspace)
    settings.cache_clear()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"posttrain": {"cache_features": True}}, ["posttrain: cache_features", "image_shift 2", "set both to 0"]),
        (
            {"finetune": {"cache_features": True, "image_shift": 0, "color_jitter": 0.0}},
            ["finetune: cache_features", "frozen System-2", "tune_system2"],
        ),
        (
            {"posttrain": {"cache_features": True, "image_shift": 0, "zero_stage": 3}},
            ["posttrain: cache_features", "zero_stage to 0, 1 or 2"],
        ),
    ],
)
def test_what_excludes_it_is_named(fields: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(Psi0Error) as caught:
        parse_params(fields, "params.yaml")
    assert all(name in str(caught.value) for name in names)


class Encoder:
    """Counts what it encodes."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        self.rows += rows.tolist()
        return (rows[:, None, None] + np.arange(6).reshape(2, 3) / 10).astype(np.float32)


def load(home: Path, encoder: Encoder, said: list[str], team: Team = ALONE, **made_from: str) -> feature_cache.Features:
    return feature_cache.load_or_build(home, made_from, (70, 2, 3), encoder, team, said.append, 1.0)


def test_rows_come_back_in_any_order_and_are_computed_once_per_content(tmp_path: Path) -> None:
    encoder, said = Encoder(), list[str]()
    features = load(tmp_path, encoder, said, system2="a")
    rows = np.array([69, 0, 33, 0])
    assert len(features) == 70 and np.array_equal(features[rows], Encoder()(rows))
    assert encoder.rows == list(range(70))
    load(tmp_path, encoder, said, system2="a")
    assert len(encoder.rows) == 70
    load(tmp_path, encoder, said, system2="b")
    assert len(encoder.rows) == 140 and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record", "no record"])
def test_a_broken_cache_is_computed_again_and_said(tmp_path: Path, damage: str) -> None:
    encoder, said = Encoder(), list[str]()
    load(tmp_path, encoder, said, system2="a")
    (folder,) = tmp_path.iterdir()
    raw, record = folder / "00000.raw", folder / feature_cache.RECORD
    content = bytearray(raw.read_bytes())
    content[5] ^= 1
    if damage == "flip":
        raw.write_bytes(content)
    elif damage == "cut":
        raw.write_bytes(content[:-4])
    elif damage == "remove":
        raw.unlink()
    elif damage == "record":
        record.write_text(record.read_text().replace('"length": 2', '"length": "two"'))
    else:
        record.unlink()
    features = load(tmp_path, encoder, said, system2="a")
    assert np.array_equal(features[np.arange(70)], Encoder()(np.arange(70)))
    assert len(encoder.rows) == 140 and any("computed again" in text for text in said)


def test_a_crash_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    class Crash(BaseException):
        pass

    class Dying(Encoder):
        def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
            if rows[0] > 0:
                raise Crash
            return super().__call__(rows)

    with pytest.raises(Crash):
        load(tmp_path, Dying(), [], system2="a")
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    features = load(tmp_path, Encoder(), [], system2="a")
    assert np.array_equal(features[np.arange(70)], Encoder()(np.arange(70)))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Psi0Error, match=r"features of System-2 cannot be written .*cache_features to false"):
        load(tmp_path / "file", Encoder(), [], system2="a")
