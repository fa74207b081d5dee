"""`psi0-system2` and `psi0-system1`: the weights that policies are made from, each content one version.

Weights up to `COPY_LIMIT_BYTES` lie as artifacts of their stage's run. Larger ones are not copied: their version names
the object in DVC's remote, which `dvc push` puts there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from psi0 import paths
from psi0.connection import connect
from psi0.errors import Psi0Error
from psi0.files import folder_files, sha256_file, sha256_json
from psi0.registry.lock_graph import Locked, prepared, rests_on
from psi0.registry.runs import find_stage
from psi0.registry.stage_record import read_stage
from psi0.registry.tracking import explained, is_missing
from psi0.registry.versions import SYSTEM1, SYSTEM2, Version, model_name, read_version

COPY_LIMIT_BYTES = 1 << 30
"""Weights up to this size are copied into the registry's artifacts [bytes]."""
FOLDER = Path("weights")
"""Folder of the weights among the artifacts of their stage's run."""
CONTENT = "weights_sha256"
"""Tag that names the content."""

_RECORDS = ("lineage.json", "manifest.json", "metrics.json", "history.jsonl", "history.csv")
"""Files of a stage's output that tell about the training and are no part of the weights."""


@dataclass(frozen=True)
class Part:
    """One of the two registered parts of a policy: which stage makes it, where it lies, what it is."""

    name: str
    stage: str
    folder: Path
    words: str


PARTS = (
    Part(SYSTEM2, "pretrain", paths.SYSTEM2, "The vision-language backbone after stage 1"),
    Part(SYSTEM1, "posttrain", paths.SYSTEM1, "The action expert after stage 2"),
)


def register_weights(
    client: MlflowClient, lock: dict[str, Any], workspace: Path = Path(), limit: int = COPY_LIMIT_BYTES
) -> dict[str, Version]:
    """Make the weights in the workspace versions of their models; the same content gives the same version.

    Args:
        client: of the MLflow server.
        lock: stages of `dvc.lock`, whose runs are recorded already.
        workspace: where the weights lie.
        limit: largest size that is copied [bytes].

    Returns:
        `system2` and `system1` -> version, for those that the lock knows.

    Raises:
        Psi0Error: the lock names weights that are not here, or whose stage has no run.
    """
    return {part.name: _register(client, part, lock, workspace, limit) for part in PARTS if part.stage in lock}


def content_of(hashes: dict[str, str]) -> str:
    """Name of the content of a weights folder, from the SHA-256 of each of its files."""
    return sha256_json({name: digest for name, digest in hashes.items() if name not in _RECORDS})


def dvc_address(md5: str) -> str:
    """Where DVC's remote keeps an object."""
    return f"s3://{connect().bucket}/dvc/files/md5/{md5[:2]}/{md5[2:]}"


def _register(client: MlflowClient, part: Part, lock: dict[str, Any], workspace: Path, limit: int) -> Version:
    folder, name = workspace / part.folder, model_name(part.name)
    if not folder.is_dir():
        raise Psi0Error(f"{folder} is missing, though dvc.lock names it; `dvc pull {part.folder}` brings it back")
    run = find_stage(client, read_stage(part.stage, lock[part.stage], workspace))
    if run is None:
        raise Psi0Error(f"{part.stage} has no run in MLflow; record the stages first")
    files = [file for file in folder_files(folder) if file.as_posix() not in _RECORDS]
    content = content_of({file.as_posix(): sha256_file(folder / file) for file in files})
    with explained(f"registering {name}"):
        _ensure_model(client, name, part)
        known = client.search_model_versions(f"name = '{name}' and tags.`{CONTENT}` = '{content}'")
        if known:
            return read_version(known[0])
        stages = rests_on(lock, part.stage)
        output = next(one for one in stages[0].outputs if one.path == part.folder.as_posix())
        size = sum((folder / file).stat().st_size for file in files)
        version = client.create_model_version(
            name,
            source=_store(client, run, folder, files, output, size <= limit),
            run_id=run.info.run_id,
            tags={
                CONTENT: content,
                "bytes": str(size),
                "dvc_md5": output.md5,
                "git_commit": run.data.tags.get("psi0.git_commit", "unknown"),
                "git_dirty": run.data.tags.get("psi0.git_dirty", "false"),
                "stage": part.stage,
                "lock_entry_sha256": stages[0].sha256,
                **{f"data.{dataset}": made.md5 for dataset, made in prepared(stages).items()},
            },
            description=_describe(_words(part, files), run, size, list(prepared(stages))),
            await_creation_for=0,
        )
    return read_version(version, created=True)


def _store(client: MlflowClient, run: Run, folder: Path, files: list[Path], output: Locked, copy: bool) -> str:
    """Upload the weights, or name the object that holds them; returns the version's source."""
    if not copy:
        return dvc_address(output.md5)
    for file in files:
        client.log_artifact(run.info.run_id, str(folder / file), (FOLDER / file.parent).as_posix())
    return f"{run.info.artifact_uri}/{FOLDER}"


def _words(part: Part, files: list[Path]) -> str:
    """What a version of a part is; a System-2 that learned in stage 2 too lies beside the expert."""
    cotrained = any((part.folder / file).is_relative_to(paths.COTRAINED_SYSTEM2) for file in files)
    return f"{part.words}, with the System-2 that learned beside it" if cotrained else part.words


def _describe(words: str, run: Run, size: int, datasets: list[str]) -> str:
    numbers = [
        f"- {name.replace('_', ' ')}: {run.data.metrics[name]:.4g}"
        for name in ("steps", "training_loss", "validation_loss")
        if name in run.data.metrics
    ]
    lines = [f"{words}, {size / 1e6:.1f} MB, from {', '.join(sorted(datasets)) or 'unknown data'}.", "", *numbers]
    return "\n".join(lines).rstrip()


def _ensure_model(client: MlflowClient, name: str, part: Part) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        client.create_registered_model(
            name,
            description=f"{part.words}. Policies name the version they were made from in their tag `{name}`.",
        )
