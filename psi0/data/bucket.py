"""Raw data in S3: list a prefix, fetch objects that are still the ones that were indexed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from psi0 import storage
from psi0.connection import connect
from psi0.errors import Psi0Error
from psi0.files import temporary_name

_CHUNK_BYTES = 1 << 20
_MD5_DIGITS = 32
_CHANGED = "changed since it was indexed; index it again (`dvc repro --force` the raw stage)"
_MISSING = "is missing; restore it, or index the source again"
_REASONS = {
    "412": _CHANGED,
    "PreconditionFailed": _CHANGED,
    "404": _MISSING,
    "NoSuchKey": _MISSING,
    "NoSuchBucket": "this bucket does not exist; check `source`, or create it",
}
"""What a code of S3 means for somebody who reads raw data; `psi0.storage` explains the others."""


class Bucket:
    """A prefix `s3://bucket/prefix`, read with the keys and endpoint of the settings."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._bucket, prefix = storage.split_address(address)
        self._prefix = f"{prefix}/" if prefix else ""
        self._connection = connect()
        self._client = storage.client(self._connection)

    def list(self) -> dict[str, tuple[int, str]]:
        """Size and entity tag of every object, by its name below the prefix."""
        found = {}
        with self._explained(self.address):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            ):
                for entry in page.get("Contents", []):
                    name = str(entry["Key"])[len(self._prefix) :]
                    if name and not name.endswith("/"):
                        found[name] = (int(entry["Size"]), str(entry["ETag"]).strip('"'))
        return found

    def fetch(self, name: str, tag: str, target: Path) -> None:
        """Download one object whose entity tag must still be `tag`; a connection that breaks is tried again.

        Raises:
            Psi0Error: it changed or is missing since it was indexed, S3 cannot be reached, or the disk is full.
        """
        temporary = temporary_name(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._explained(f"{self.address.rstrip('/')}/{name}"):
                storage.healed(self._download)(name, tag, temporary)
            temporary.replace(target)
        except OSError as error:
            raise Psi0Error(
                f"{target}: cannot write ({error.strerror}); free some space or fix its permissions"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _download(self, name: str, tag: str, target: Path) -> None:
        body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, IfMatch=tag)["Body"]
        try:
            with target.open("wb") as file:
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except IncompleteReadError as error:
            raise HTTPClientError(error=error) from error

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            with storage.explained(self._connection, self._bucket):
                try:
                    yield
                except ClientError as error:
                    code = str(error.response.get("Error", {}).get("Code", ""))
                    if code not in _REASONS:
                        raise
                    raise Psi0Error(_REASONS[code]) from None
        except Psi0Error as error:
            raise Psi0Error(f"{what}: {error}") from None


def is_intact(path: Path, tag: str) -> bool:
    """Whether a fetched file has the bytes of its entity tag; true where the tag is no MD5 (uploads in parts)."""
    if len(tag) != _MD5_DIGITS:
        return True
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == tag
