"""Files that are never half written: temporary name, fsync, rename. Checksums of files and folders."""

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psi0.errors import Psi0Error

_CHUNK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def is_full(error: OSError) -> bool:
    """Whether an error means that a disk, or what a user may have of it, is full."""
    return error.errno in _FULL


def reason(error: OSError) -> str:
    """What the system says, the file it says it of, and the remedy where there is one."""
    said = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else error.strerror or str(error)
    remedy = "; free some space" if is_full(error) else "; fix the permissions" if error.errno in _FORBIDDEN else ""
    return said + remedy


def fsync_path(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other thread or process writes under."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step: readers see the old bytes or the new ones, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise Psi0Error(f"{path} cannot be written: {reason(error)}") from error


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for text in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises `Psi0Error` that names the file when it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise Psi0Error(f"{path} is missing; run the stage that makes it (`dvc repro`) or `dvc pull`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Psi0Error(f"{path} is not valid JSON ({error}); it may be truncated: restore or rebuild it") from None


@contextmanager
def publish_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; when the block ends well it replaces `target`, else it is removed.

    A stage writes its output through this, so that a crash leaves the previous output or nothing, never a half.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.staging")
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        yield staging
        for file in sorted(staging.rglob("*")):
            if file.is_file():
                fsync_path(file)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
        fsync_path(target.parent)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise Psi0Error(f"{target} was not made: {reason(error)}") from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of the canonical JSON text of a value: the same for equal values whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_files(folder: Path) -> list[Path]:
    """Every file below `folder`, as sorted paths relative to it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def sha256_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its path relative to it."""
    return {path.as_posix(): sha256_file(folder / path) for path in folder_files(folder)}


def sha256_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below `folder`."""
    return sha256_json(sha256_files(folder))
