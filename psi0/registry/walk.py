"""The way from a version down to the raw episodes: gate, evaluation, graphs, policy, weights, data, sources."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from psi0.registry.lock_graph import PREPARED, RAW, LockedStage, gaps, rests_on
from psi0.registry.origins import FILE as ORIGINS
from psi0.registry.origins import Origin, raw_source, read_origins
from psi0.registry.stage_record import read_lock
from psi0.registry.versions import Version, download_evidence
from psi0.registry.weights import PARTS

SET_ASIDE_SHOWN = 20
_DIGITS = 12


@dataclass(frozen=True)
class Step:
    """One stage on the way.

    Attributes:
        stage: `finetune@pick_can`.
        outputs: path -> DVC's hash.
        facts: what there is to say about it, a line each.
    """

    stage: str
    outputs: dict[str, str]
    facts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Walk:
    """A version's lineage: where it was registered, the stages from its gate to the raw data, and what is broken."""

    version: Version
    steps: list[Step]
    gaps: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {
            "schema_version": 1,
            "model": self.version.name,
            "version": self.version.number,
            "run_id": self.version.run_id,
            "git_commit": self.version.tags.get("git_commit", "unknown"),
            "git_dirty": self.version.tags.get("git_dirty", "unknown"),
            "steps": [{"stage": one.stage, "outputs": one.outputs, "facts": one.facts} for one in self.steps],
            "gaps": self.gaps,
        }


def walk(client: MlflowClient, version: Version, folder: Path) -> Walk:
    """Walk from a version to the raw episodes.

    Args:
        client: of the MLflow server.
        version: where to begin.
        folder: scratch folder for the two files of its evidence that are read.

    Raises:
        Psi0Error: the version has no evidence, or its `dvc.lock` does not reach its gate.
    """
    lock = read_lock(download_evidence(client, version, folder, "dvc.lock").parent)
    origins = read_origins(download_evidence(client, version, folder, ORIGINS)).datasets
    stages = rests_on(lock, f"gate@{version.task}")
    steps = [_step(stage, stages, version, origins) for stage in stages]
    return Walk(version, steps, gaps(stages))


def show_walk(found: Walk) -> RenderableType:
    """A lineage for a terminal, from the version at the top to the raw episodes."""
    tags = found.version.tags
    dirty = " with uncommitted changes" if tags.get("git_dirty") == "true" else ""
    head = Text(
        f"{found.version.label}: {found.version.verdict}, code {tags.get('git_commit', 'unknown')[:_DIGITS]}{dirty}"
    )
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("made", no_wrap=True)
    table.add_column("fingerprint", no_wrap=True)
    table.add_column("", overflow="fold")
    for step in found.steps:
        outputs = list(step.outputs.items()) or [("", "")]
        for number, (path, md5) in enumerate(outputs):
            facts = "\n".join(step.facts) if number == 0 else ""
            table.add_row(step.stage if number == 0 else "", path, md5[:_DIGITS], facts)
    broken = [Text(f"gap: {gap}", style="bold red") for gap in found.gaps]
    return Group(head, table, *broken)


def _step(stage: LockedStage, stages: list[LockedStage], version: Version, origins: dict[str, Origin]) -> Step:
    outputs = {output.path: output.md5 for output in stage.outputs}
    return Step(stage.name, outputs, list(_facts(stage, stages, version, origins)))


def _facts(
    stage: LockedStage, stages: list[LockedStage], version: Version, origins: dict[str, Origin]
) -> Iterator[str]:
    tags = version.tags
    if stage.base == "gate":
        yield f"{version.verdict}{': ' if tags.get('reasons') else ''}{tags.get('reasons', '')}"
    if stage.base == "evaluate":
        plan = tags.get("plan_sha256", "unknown")[:_DIGITS]
        yield f"{tags.get('successes', '?')} of {tags.get('episodes', '?')} episodes succeeded, plan {plan}"
    if stage.base in ("export", "finetune"):
        yield f"policy {tags.get('policy_sha256', '')[:_DIGITS]}"
    for part in PARTS:
        if stage.name == part.stage:
            yield f"psi0-{part.name} version {tags.get(f'psi0-{part.name}', 'not registered')}"
    for output in stage.outputs:
        if output.path.startswith(PREPARED):
            origin = origins.get(output.path.removeprefix(PREPARED).partition("/")[0])
            yield from _prepared(origin)
        elif output.path.startswith(RAW):
            name = output.path.removeprefix(RAW).partition("/")[0]
            yield from _raw(stage, raw_source(stages, name), output.files, output.bytes, origins.get(name))


def _prepared(origin: Origin | None) -> Iterator[str]:
    if origin is None:
        yield "counts unknown: the dataset was not in the workspace that registered the version"
        return
    yield (
        f"{origin.episodes} episodes, {origin.frames} frames at {origin.frame_rate:g} Hz, "
        f"{len(origin.set_aside)} set aside"
    )
    for entry in origin.set_aside[:SET_ASIDE_SHOWN]:
        yield f"  set aside {entry.name}: {entry.reason}"
    if len(origin.set_aside) > SET_ASIDE_SHOWN:
        yield f"  and {len(origin.set_aside) - SET_ASIDE_SHOWN} more (artifact evidence/{ORIGINS})"


def _raw(stage: LockedStage, source: str, files: int, size: int, origin: Origin | None) -> Iterator[str]:
    seed = stage.params.get(stage.base, {}).get("seed")
    recorded = f" from seed {seed}" if source == "recorder" and seed is not None else ""
    yield f"source {source}{recorded}: {files} files, {size / 1e6:.1f} MB"
    if origin is not None:
        episodes = origin.episodes + len(origin.set_aside)
        kind = "synthetic" if origin.synthetic else "real"
        shared = "" if origin.redistributable else ", may not be passed on"
        content, names = origin.source_fingerprint[:_DIGITS], origin.names_sha256[:_DIGITS]
        yield f"{episodes} raw episodes, {kind}, {origin.source_format}{shared}"
        yield f"fingerprint of their files {content}, of the names that were kept {names}"
