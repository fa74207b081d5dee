"""The part of `dvc.lock` that a result rests on: stages from a gate down to raw data, and whether they fit together."""

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath
from typing import Any

from psi0.errors import Psi0Error
from psi0.files import sha256_json

PREPARED = "data/prepared/"
RAW = "data/raw/"


@dataclass(frozen=True)
class Locked:
    """A path as `dvc.lock` pins it: DVC's hash, and what it weighs where that is known."""

    path: str
    md5: str
    bytes: int = 0
    files: int = 1


@dataclass(frozen=True)
class LockedStage:
    """A stage of `dvc.lock`.

    Attributes:
        name: `finetune@pick_can`.
        inputs: what it read, code included.
        outputs: what it made.
        params: block -> values, as pinned.
        sha256: hash of the whole entry.
    """

    name: str
    inputs: list[Locked]
    outputs: list[Locked]
    params: dict[str, Any]
    sha256: str

    @property
    def base(self) -> str:
        """Name without the task."""
        return self.name.partition("@")[0]

    @property
    def code(self) -> list[Locked]:
        """Inputs that are psi0's own sources."""
        return [one for one in self.inputs if one.path.startswith("psi0/")]


def rests_on(lock: dict[str, Any], stage: str) -> list[LockedStage]:
    """A stage and everything it rests on, each stage before those that it was made from.

    Args:
        lock: stages of `dvc.lock` by name, as `stage_record.read_lock` returns them.
        stage: where to begin.

    Raises:
        Psi0Error: the lock has no such stage.
    """
    if stage not in lock:
        raise Psi0Error(f"{stage} is not in dvc.lock: it was not built by `dvc repro`")
    stages = {name: _stage(name, entry) for name, entry in lock.items()}
    makers = {output.path: name for name, one in stages.items() for output in one.outputs}
    sources = {
        name: {made_by for one in each.inputs if (made_by := _maker(makers, one.path)) not in (None, name)}
        for name, each in stages.items()
    }
    wanted, waiting = {stage}, [stage]
    while waiting:
        more = sources[waiting.pop()] - wanted
        wanted |= more
        waiting += sorted(more)
    try:
        order = list(TopologicalSorter({name: sources[name] for name in stages if name in wanted}).static_order())
    except CycleError as error:
        raise Psi0Error(f"dvc.lock is broken: {' and '.join(error.args[1][:-1])} rest on each other") from None
    return [stages[name] for name in reversed(order)]


def gaps(stages: list[LockedStage]) -> list[str]:
    """Where a chain of stages does not hold together: what a stage read is not what the stage before it made."""
    made = {output.path: output for stage in stages for output in stage.outputs}
    found = []
    for stage in stages:
        for source in stage.inputs:
            known = made.get(source.path)
            if known is not None and known.md5 != source.md5:
                found.append(f"{stage.name} read {source.path} {source.md5[:10]}, but {known.md5[:10]} was made")
            elif known is None and source.path.startswith(("data/", "models/", "evaluation/")):
                found.append(f"{stage.name} read {source.path}, which no stage of dvc.lock makes")
    return found


def prepared(stages: list[LockedStage]) -> dict[str, Locked]:
    """Prepared datasets that a chain of stages rests on: short name (`egodex`, `demonstrations`) -> what was made."""
    outputs = [output for stage in stages for output in stage.outputs if output.path.startswith(PREPARED)]
    return {output.path.removeprefix(PREPARED).partition("/")[0]: output for output in outputs}


def _maker(makers: dict[str, str], path: str) -> str | None:
    """The stage that made a path or a folder above it."""
    parents = (str(parent) for parent in PurePosixPath(path).parents)
    return next((makers[each] for each in (path, *parents) if each in makers), None)


def _stage(name: str, entry: dict[str, Any]) -> LockedStage:
    return LockedStage(
        name=name,
        inputs=[_locked(one) for one in entry.get("deps", [])],
        outputs=[_locked(one) for one in entry.get("outs", [])],
        params={block: values for file in entry.get("params", {}).values() for block, values in file.items()},
        sha256=sha256_json(entry),
    )


def _locked(entry: dict[str, Any]) -> Locked:
    return Locked(
        path=str(entry["path"]),
        md5=str(entry.get("md5", "")),
        bytes=int(entry.get("size", 0)),
        files=int(entry.get("nfiles", 1)),
    )
