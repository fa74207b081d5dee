"""Where a judged policy comes from: training curves, data quality and lineage, read from the stages' outputs.

The gate's stage keeps this beside its verdict as `origin.json`, so that a version's report can be written again from
its registered evidence alone, on a machine that holds neither data nor weights.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from psi0 import paths
from psi0.data.quality import Quality, SetAside, read_quality
from psi0.files import read_json

ORIGIN_FILE = "origin.json"

_NAMES = {
    "system1": "System-1",
    "system2": "System-2",
    "humanoid_everyday": "Humanoid Everyday",
    "egodex": "EgoDex",
}
_CURVES = {"training": "loss", "held out": "validation_loss"}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Curve(_Record):
    """A loss over steps."""

    name: str
    points: list[tuple[float, float]] = Field(description="`(step, loss)`")


class Training(_Record):
    """What a training stage left: its final numbers and its curves."""

    name: str
    metrics: dict[str, float]
    curves: list[Curve]


class Dataset(_Record):
    """A prepared dataset: its numbers, and what was set aside."""

    name: str
    metrics: dict[str, float]
    set_aside: list[SetAside]


class Ancestor(_Record):
    """One link of the chain from the policy to the raw episodes."""

    name: str
    path: str
    fingerprint: str = Field(description="As the things made from it recorded it; empty when they did not")
    made_from: list[str] = Field(description="Names of other ancestors")
    git_commit: str = ""
    dirty: bool = False


class Origin(_Record):
    """Everything the report tells about how a policy came to be; parts that are not here are left out."""

    schema_version: Literal[1] = 1
    trainings: list[Training] = Field(default_factory=list)
    datasets: list[Dataset] = Field(default_factory=list)
    ancestors: list[Ancestor] = Field(default_factory=list)
    synthetic: bool = Field(False, description="The demonstrations come from a scripted demonstrator in simulation")


def read_origin(task: str, policy_sha256: str) -> Origin:
    """Collect what the stages before the gate left in this workspace."""
    stages = {
        "Stage 1, System-2": paths.SYSTEM2,
        "Stage 2, System-1": paths.SYSTEM1,
        "Stage 3, the task": paths.policy(task),
    }
    trainings = [
        Training(name=name, metrics=_numbers(folder / "metrics.json"), curves=_curves(folder / "history.csv"))
        for name, folder in stages.items()
    ]
    prepared = {
        "EgoDex": paths.PREPARED_EGODEX,
        "Humanoid Everyday": paths.PREPARED_HUMANOID_EVERYDAY,
        "demonstrations": paths.prepared_demonstrations(task),
    }
    reports = {name: quality for name, folder in prepared.items() if (quality := _quality(folder)) is not None}
    datasets = [
        Dataset(name=name, metrics=_numbers(prepared[name] / "metrics.json"), set_aside=quality.set_aside)
        for name, quality in reports.items()
    ]
    return Origin(
        trainings=[training for training in trainings if training.metrics or training.curves],
        datasets=datasets,
        ancestors=_ancestors(task, policy_sha256),
        synthetic="demonstrations" in reports and reports["demonstrations"].synthetic,
    )


def _ancestors(task: str, policy_sha256: str) -> list[Ancestor]:
    """The chain from the judged policy down to raw episodes, each thing once, what was made last first."""
    # The graphs carry the lineage of what they play, which need not be the trained policy.
    models = {
        "policy": paths.graphs(task),
        "System-1": paths.SYSTEM1,
        "System-2": paths.SYSTEM2,
        "tokenizer": paths.TOKENIZER,
    }
    data = {
        "demonstrations": (paths.prepared_demonstrations(task), paths.raw_demonstrations(task)),
        "Humanoid Everyday": (paths.PREPARED_HUMANOID_EVERYDAY, paths.RAW_HUMANOID_EVERYDAY),
        "EgoDex": (paths.PREPARED_EGODEX, paths.RAW_EGODEX),
    }
    known, fingerprints = {}, {"policy": policy_sha256}
    for name, folder in models.items():
        if (folder / "lineage.json").exists():
            record = read_json(folder / "lineage.json")
            inputs = {_NAMES.get(key, key): str(value) for key, value in record.get("data", {}).items()}
            if name == "policy" and paths.COTRAINED_SYSTEM2.is_dir():
                # The System-2 that it began from is part of System-1's folder, not what stage 1 left.
                inputs.pop("System-2", None)
            fingerprints |= inputs
            commit, dirty = str(record.get("git_commit", "")), bool(record.get("dirty"))
            known[name] = _link(name, folder, sorted(inputs), commit, dirty)
    for name, (folder, raw) in data.items():
        if (folder / "meta" / "psi0.json").exists():
            source = f"{name}, raw"
            fingerprints[source] = str(read_json(folder / "meta" / "psi0.json").get("source_fingerprint", ""))
            known |= {name: _link(name, folder, [source]), source: _link(source, raw, [])}
    reached = _reached(known)
    return [
        one.model_copy(update={"fingerprint": fingerprints.get(name, "")})
        for name, one in known.items()
        if name in reached
    ]


def _link(name: str, folder: Path, made_from: list[str], commit: str = "", dirty: bool = False) -> Ancestor:
    path = folder.as_posix()
    return Ancestor(name=name, path=path, fingerprint="", made_from=made_from, git_commit=commit, dirty=dirty)


def _reached(known: Mapping[str, Ancestor]) -> set[str]:
    """What the policy was made from, directly or not, itself included."""
    found: set[str] = set()
    waiting = ["policy"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += known[name].made_from if name in known else []
    return found


def _quality(folder: Path) -> Quality | None:
    return read_quality(folder) if (folder / "quality.json").exists() else None


def _curves(file: Path) -> list[Curve]:
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    curves = [
        Curve(
            name=name,
            points=[(float(row["step"]), float(row[column])) for row in rows if row.get("step") and row.get(column)],
        )
        for name, column in _CURVES.items()
    ]
    return [curve for curve in curves if curve.points]


def _numbers(file: Path) -> dict[str, float]:
    if not file.exists():
        return {}
    return {name: value for name, value in read_json(file).items() if isinstance(value, int | float)}
