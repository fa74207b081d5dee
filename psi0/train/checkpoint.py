"""Checkpoints by contract: a folder of safetensors and JSON that is valid only with its manifest, written last.

`<home>/checkpoints/<stage>/<fingerprint>/step-<n>/` holds `weights.safetensors` (trainable weights),
`average.safetensors` (their moving average, if any), `optimizer-rank-<r>.safetensors` (each rank's shard: master
weights and the optimiser's moments), `state.json` (step, sampler position, noise seeds, running history) and
`manifest.json` (sha256 of each file, step, fingerprint, lineage).
Collectives: `save` and `restore` are called by all ranks.
"""

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from psi0.errors import Psi0Error
from psi0.files import folder_files, fsync_path, read_json, sha256_file, write_json
from psi0.lineage import Checkout, Lineage
from psi0.train.engine import Engine
from psi0.train.team import Team

KEEP = 2
VERSION = 2
WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.json", "manifest.json"
AVERAGE = "average.safetensors"


class Manifest(BaseModel):
    """The contract of a checkpoint folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(VERSION, description="Version of this record's layout")
    stage: str = Field(description="Stage, with its task if it has one")
    fingerprint: str = Field(description="Hash of parameters, data and code that this run depends on")
    step: int = Field(description="Optimiser steps taken")
    ranks: int = Field(description="Processes that the optimiser shards belong to")
    zero_stage: int = Field(description="DeepSpeed ZeRO stage of the shards")
    precision: str = Field(description="Arithmetic of the run, `auto` resolved")
    lineage: Lineage = Field(description="What the run is made from")
    checkout: Checkout = Field(description="The code that ran")
    sha256: dict[str, str] = Field(description="Checksum of every other file")


class State(BaseModel):
    """What a run needs besides tensors to go on as if nothing had happened."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int = Field(description="Optimiser steps taken")
    samples_seen: int = Field(description="Position of the sampler; order follows from it and the seed alone")
    seed: int = Field(description="Seed that order, augmentation and noise are derived from, together with the step")
    history: dict[str, Any] = Field(description="Rows written so far and the sums of the window in progress")


def _shard(rank: int) -> str:
    return f"optimizer-rank-{rank:05d}.safetensors"


def _folder(run: Path, step: int) -> Path:
    return run / f"step-{step:08d}"


def verify(folder: Path) -> Manifest:
    """Return the manifest of a whole, unchanged checkpoint.

    Raises:
        Psi0Error: no manifest, a missing or changed file, an unknown schema version.
    """
    content = read_json(folder / MANIFEST)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != VERSION:
        raise Psi0Error(f"{folder / MANIFEST}: schema_version {version!r}, this code reads {VERSION}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise Psi0Error(f"{folder / MANIFEST}: not a checkpoint manifest ({error.errors()[0]['msg']})") from None
    for name, expected in manifest.sha256.items():
        file = folder / name
        if not file.is_file():
            raise Psi0Error(f"{file} is missing")
        if sha256_file(file) != expected:
            raise Psi0Error(f"{file} does not match its checksum in {MANIFEST}")
    return manifest


def newest(run: Path, say: Callable[[str], None]) -> tuple[Path, Manifest] | None:
    """The newest valid checkpoint of a run, or None; what is skipped is said with its reason."""
    for folder in sorted(run.glob("step-*"), reverse=True):
        try:
            return folder, verify(folder)
        except Psi0Error as error:
            say(f"checkpoint {folder.name} skipped: {error}; going back to the one before")
    return None


def save(
    run: Path, manifest_of: Callable[[dict[str, str]], Manifest], state: State, engine: Engine, team: Team
) -> None:
    """Write a checkpoint: every rank its shard, rank 0 the rest and, last, the manifest; then forget the oldest.

    Raises:
        Psi0Error: on all ranks, when one of them cannot write; the checkpoint before stays.
    """
    target = _folder(run, state.step)
    partial = target.with_name(f".{target.name}.partial")
    if team.leads:
        shutil.rmtree(partial, ignore_errors=True)
        team.raise_together(_problem(partial, lambda: partial.mkdir(parents=True)))
    else:
        team.raise_together(None)
    weights = engine.weights()

    def write() -> None:
        save_file(engine.optimizer_state(), partial / _shard(team.rank))
        if team.leads:
            save_file({name: value.contiguous() for name, value in weights.items()}, partial / WEIGHTS)
            if engine.average is not None:
                save_file(engine.average.state(), partial / AVERAGE)
            write_json(partial / STATE, state.model_dump(mode="json"))

    team.raise_together(_problem(partial, write))

    def seal() -> None:
        if team.leads:
            files = folder_files(partial)
            for file in files:
                fsync_path(partial / file)
            hashes = {file.as_posix(): sha256_file(partial / file) for file in files}
            write_json(partial / MANIFEST, manifest_of(hashes).model_dump(mode="json"))
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            fsync_path(run)
            for old in sorted(run.glob("step-*"))[:-KEEP]:
                shutil.rmtree(old, ignore_errors=True)

    team.raise_together(_problem(partial, seal))


def restore(folder: Path, manifest: Manifest, engine: Engine, team: Team) -> State:
    """Put a verified checkpoint back.

    Raises:
        Psi0Error: it was written by another number of ranks, another ZeRO stage or in another arithmetic.
    """
    if manifest.precision != engine.training.precision:
        raise Psi0Error(
            f"{folder}: computed in {manifest.precision}, this machine computes in {engine.training.precision}; go on"
            " where the run began, or delete the folder to start over"
        )
    if (manifest.ranks, manifest.zero_stage) != (team.ranks, engine.training.zero_stage):
        raise Psi0Error(
            f"{folder}: written by {manifest.ranks} ranks with ZeRO stage {manifest.zero_stage}, now {team.ranks} and"
            f" {engine.training.zero_stage}; optimiser shards do not fit another split."
            " Set ranks and zero_stage back, or delete the folder to start over"
        )
    engine.load_weights(load_file(folder / WEIGHTS))
    engine.load_optimizer_state(load_file(folder / _shard(team.rank)))
    if engine.average is not None:
        engine.average.load(load_file(folder / AVERAGE))
    return State.model_validate(read_json(folder / STATE))


def forget_other_runs(stage_folder: Path, current: str, keep: int = 2) -> None:
    """Remove the checkpoints of all but the newest `keep` other runs of a stage."""
    if not stage_folder.is_dir():
        return
    others = [folder for folder in stage_folder.iterdir() if folder.is_dir() and folder.name != current]
    for old in _newest_first(others)[keep:]:
        shutil.rmtree(old, ignore_errors=True)


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _problem(partial: Path, action: Callable[[], None]) -> str | None:
    """Run `action`; a write error becomes a message and leaves nothing half written."""
    try:
        action()
    except (OSError, SafetensorError, Psi0Error) as error:
        with suppress(OSError):
            shutil.rmtree(partial)
        return (
            f"{partial.parent}: the checkpoint cannot be written ({error}); free some space or point PSI0_HOME to"
            " another disk, then run again: it resumes from the checkpoint before"
        )
    return None
