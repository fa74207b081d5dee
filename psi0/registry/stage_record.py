"""What a stage leaves behind, read back from `dvc.lock` and its output: enough to rebuild its run at any time."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_json


@dataclass(frozen=True)
class Dataset:
    """A dataset that a stage read: its path, and DVC's hash of it as fingerprint."""

    path: str
    digest: str


@dataclass(frozen=True)
class StageRecord:
    """A finished stage.

    Attributes:
        name: as in `dvc.lock`: `finetune@pick_can`.
        lock_sha256: hash of its whole entry: the same inputs, parameters and outputs give the same.
        params_sha256: hash of the parameters it depends on.
        params: those parameters, flat: `finetune.steps` -> 500.
        metrics: numbers of its `metrics.json`.
        history: `(step, name, value)` of its `history.jsonl`.
        datasets: what it read below `data/`.
        outputs: path -> DVC's hash of it.
    """

    name: str
    lock_sha256: str
    params_sha256: str
    params: dict[str, Any]
    metrics: dict[str, float]
    history: list[tuple[int, str, float]]
    datasets: list[Dataset]
    outputs: dict[str, str]


def read_lock(workspace: Path = Path()) -> dict[str, Any]:
    """Stages of `dvc.lock` by name. Raises `Psi0Error` when there is none."""
    path = workspace / "dvc.lock"
    try:
        return (yaml.safe_load(path.read_text()) or {}).get("stages", {})
    except FileNotFoundError:
        raise Psi0Error(f"{path} is missing: nothing was built here; `make recipe` or `dvc repro` builds it") from None
    except yaml.YAMLError as error:
        raise Psi0Error(f"{path} is not valid YAML ({error}); `dvc repro` writes it anew after you remove it") from None


def read_stage(name: str, entry: dict[str, Any], workspace: Path = Path()) -> StageRecord:
    """Read a stage's record from its entry in `dvc.lock` and the files in its output folders."""
    params = {key: value for file in entry.get("params", {}).values() for key, value in file.items()}
    metrics: dict[str, float] = {}
    history: list[tuple[int, str, float]] = []
    for output in entry.get("outs", []):
        folder = workspace / output["path"]
        if (folder / "metrics.json").exists():
            metrics |= _numbers(read_json(folder / "metrics.json"))
        if (folder / "history.jsonl").exists():
            history += _read_history(folder / "history.jsonl")
    return StageRecord(
        name=name,
        lock_sha256=sha256_json(entry),
        params_sha256=sha256_json(params),
        params=flat(params),
        metrics=metrics,
        history=history,
        datasets=[
            Dataset(dependency["path"], dependency["md5"])
            for dependency in entry.get("deps", [])
            if dependency["path"].startswith("data/") and "md5" in dependency
        ],
        outputs={output["path"]: output.get("md5", "") for output in entry.get("outs", [])},
    )


def _read_history(path: Path) -> list[tuple[int, str, float]]:
    points = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            step = int(row.get("step", number))
        except (ValueError, AttributeError):
            raise Psi0Error(f"{path}:{number} is not a JSON object with a step; rebuild the stage") from None
        points += [(step, name, value) for name, value in _numbers(row).items() if name != "step"]
    return points


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Finite numbers of a mapping, nested names joined by dots."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[f"{prefix}{name}"] = float(value)
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots: `finetune.steps` -> 500."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
