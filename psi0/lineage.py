"""Fingerprints of code, data and parameters, and the lineage record that follows every model.

The record in a stage's output names nothing but what the output was made from, so that the same inputs leave the same
bytes under another commit. The commit stands in the manifest of each checkpoint and in the tags of what is registered.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import folder_files, read_json, sha256_file, sha256_json, write_json

CODE_FOLDER = Path(__file__).parent
LINEAGE_FILE = "lineage.json"
RECORDS = (LINEAGE_FILE, "metrics.json", "history.jsonl", "history.csv")
"""Files of an output that tell how it was made; nothing is computed from them."""


class Lineage(BaseModel):
    """What something was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[2] = Field(2, description="Version of this record's layout")
    params_sha256: str = Field(description="Hash of the parameters that it depends on")
    data: dict[str, str] = Field(default_factory=dict, description="Fingerprint per input dataset or model")
    precision: str | None = Field(None, description="Arithmetic that it was trained in; None where nothing was trained")


class Checkout(BaseModel):
    """The state of the code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    git_commit: str = Field(description="Commit of the checkout, or `unknown` outside one")
    dirty: bool = Field(description="True when tracked files differ from the commit (dvc.lock aside)")

    @classmethod
    def now(cls) -> "Checkout":
        """The checkout around the current folder."""
        commit, dirty = git_state()
        return cls(git_commit=commit, dirty=dirty)


def git_state(repository: Path = Path()) -> tuple[str, bool]:
    """Return (commit, dirty). `dvc.lock` and untracked files do not count as dirt."""

    def git(*arguments: str) -> str:
        answer = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True)
        return answer.stdout

    try:
        # Not stripped: the first line may begin with the blank of an unstaged change.
        changed = git("status", "--porcelain", "--untracked-files=no").splitlines()
        return git("rev-parse", "HEAD").strip(), any(line[3:] != "dvc.lock" for line in changed)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown", False


def fingerprint_folder(folder: Path) -> str:
    """Fingerprint of a dataset or model folder: over all names and contents in it but `RECORDS`."""
    names = (file.as_posix() for file in folder_files(folder))
    return sha256_json({name: sha256_file(folder / name) for name in names if name not in RECORDS})


def fingerprint_code(*rooms: str) -> str:
    """Fingerprint of the Python sources of some rooms (`"train"`, `"model"`, ...) of psi0."""
    sources = [path for room in rooms for path in sorted((CODE_FOLDER / room).rglob("*.py"))]
    return sha256_json({path.relative_to(CODE_FOLDER).as_posix(): sha256_file(path) for path in sources})


def lineage(params: BaseModel | Mapping[str, Any], **data: Path) -> Lineage:
    """The lineage of something made now.

    Args:
        params: the parameters that it depends on, and no others.
        data: files and folders that it is made from, by name.
    """
    values = params.model_dump(mode="json") if isinstance(params, BaseModel) else params
    return Lineage(
        params_sha256=sha256_json(values),
        data={
            name: sha256_file(path) if path.is_file() else fingerprint_folder(path)
            for name, path in sorted(data.items())
        },
    )


def write_lineage(folder: Path, origin: Lineage) -> None:
    """Leave the record in an output folder."""
    write_json(folder / LINEAGE_FILE, origin.model_dump(mode="json"))


def read_lineage(folder: Path) -> Lineage:
    """Read the record of an output folder. Raises `Psi0Error` when it is missing, broken or of another version."""
    content = read_json(folder / LINEAGE_FILE)
    try:
        return Lineage.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        raise Psi0Error(
            f"{folder / LINEAGE_FILE}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}; this code reads version"
            " 2: use the psi0 that wrote it, or rebuild the folder"
        ) from None


def lock_entry_sha256(stage: str, lock: Path = Path("dvc.lock")) -> str | None:
    """Hash of a stage's entry in `dvc.lock`, or None when the stage has none."""
    if not lock.exists():
        return None
    entry = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}).get(stage)
    return sha256_json(entry) if entry else None
