"""The manifest of a model folder: a checksum per file, so that a flipped byte or a missing file is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psi0.errors import Psi0Error
from psi0.files import folder_files, read_json, sha256_file, sha256_json, write_json

FILE = "manifest.json"
SCHEMA_VERSION = 1


def write_manifest(folder: Path, **facts: Any) -> str:
    """Write `manifest.json` over all files now in the folder; returns the hash of their names and contents.

    Args:
        folder: model folder.
        facts: more fields for the manifest (`policy_sha256`, ...).
    """
    files = {path.as_posix(): sha256_file(folder / path) for path in folder_files(folder) if path.as_posix() != FILE}
    digest = sha256_json(files)
    write_json(folder / FILE, {"schema_version": SCHEMA_VERSION, "files": files, "sha256": digest, **facts})
    return digest


def check_manifest(folder: Path, hashes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read `manifest.json` and check every file it lists.

    Args:
        folder: model folder.
        hashes: SHA-256 of its files by name, where they are known already; the files themselves may then lie
            elsewhere, all but the manifest.

    Raises:
        Psi0Error: no manifest, another schema version, a missing file, a changed byte; the message names the file.
    """
    content = read_json(folder / FILE)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise Psi0Error(
            f"{folder / FILE}: schema_version {version!r}, this code reads {SCHEMA_VERSION}; use the psi0 that wrote it"
        )
    for name, expected in content["files"].items():
        file = folder / name
        found = _hash(file) if hashes is None else hashes.get(name)
        if found is None:
            raise Psi0Error(f"{file} is missing though {FILE} lists it; restore it (`dvc pull`) or rebuild the folder")
        if found != expected:
            raise Psi0Error(f"{file} was changed after it was written; restore it (`dvc pull`) or rebuild the folder")
    if sha256_json(content["files"]) != content.get("sha256"):
        raise Psi0Error(f"{folder / FILE} was changed after it was written; restore or rebuild the folder")
    return content


def _hash(file: Path) -> str | None:
    return sha256_file(file) if file.is_file() else None
