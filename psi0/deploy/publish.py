"""Bundles on S3: uploaded under the name of their content, found through a small pointer that moves last.

A channel (`stable`, or another name) is one object, `channels/<task>/<channel>.json`. It moves by a conditional write:
of two that move it at once one wins and the other hears so. The bucket's versioning keeps where it pointed before.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0 import storage
from psi0.connection import Connection, connect
from psi0.deploy.listing import read_listing
from psi0.deploy.manifest import SUMS, read_manifest
from psi0.deploy.verify import verify, verify_folder
from psi0.errors import Psi0Error
from psi0.files import folder_files, sha256_file

CHANNEL = "stable"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")


class PointerMovedError(Psi0Error):
    """Somebody else moved the channel's pointer in the meantime; theirs stands."""


class BrokenPointerError(Psi0Error):
    """A channel's object is there and is no pointer."""


class Pointer(BaseModel):
    """`channels/<task>/<channel>.json`: the bundle to deploy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = Field(1, description="Version of this file's layout")
    task: str
    bundle: str = Field(description="Name of the bundle: SHA-256 of its SHA256SUMS")
    address: str = Field(description="s3:// address of its folder")
    model: str = Field(description="Registered model it was built from")
    version: str = Field(description="Version of that model")
    moved_at: str = Field(description="When the pointer moved there (UTC)")


@dataclass(frozen=True)
class PointerVersion:
    """One state that a channel's pointer was in.

    Attributes:
        version_id: the object version on S3 ("null" from before versioning was on).
        written_at: when S3 wrote it (UTC).
        pointer: what it says; None where it was deleted or is not a pointer.
        deleted: whether the pointer was deleted then.
    """

    version_id: str
    written_at: str
    pointer: Pointer | None
    deleted: bool


def publish(bundle: Path, channel: str = CHANNEL) -> Pointer:
    """`upload` a bundle and `point` its task's channel to it. Raises `Psi0Error` as those do."""
    address, manifest = upload(bundle), read_manifest(bundle)
    return point(address, manifest.task, manifest.source.model, manifest.source.version, channel)


def upload(bundle: Path) -> str:
    """Upload a bundle below `bundles/<task>/<name>/` and check what lies there byte by byte; returns its address.

    Doing it again uploads what is missing, usually nothing. A signature that lies there is replaced where no key that
    is trusted now made it (keys change, content does not).

    Raises:
        Psi0Error: the bundle is not whole or not signed by a trusted key, other bytes lie there already, or S3 is
            down, refuses the key, or has no such bucket.
    """
    checked, manifest, connection = verify_folder(bundle), read_manifest(bundle), connect()
    prefix = f"bundles/{manifest.task}/{checked.name}"
    address = f"s3://{connection.bucket}/{prefix}"
    if _holds(address):
        return address
    s3 = storage.client(connection)
    with storage.explained(connection):
        # The list of sums goes last: a prefix without it is not a bundle yet.
        for file in sorted(folder_files(bundle), key=lambda file: (file.name == SUMS, file)):
            path = bundle / file
            storage.upload(s3, path, connection.bucket, f"{prefix}/{file.as_posix()}", sha256_file(path))
    verify(address)
    return address


def point(address: str, task: str, model: str, version: str, channel: str = CHANNEL) -> Pointer:
    """Move a task's channel to an uploaded bundle; nothing is written where it points there already.

    The bundle's list, signature and manifest are checked first; its bytes were when it was uploaded, and are by
    everybody who fetches it.

    Args:
        address: `s3://` address of the bundle.
        task: the task it must be for.
        model: registered model that it must be built from.
        version: version of that model.
        channel: which channel to move.

    Raises:
        PointerMovedError: somebody else moved the channel in the meantime.
        Psi0Error: there is no such bundle or it is another's, or S3 did not take the write. Then the pointer is where
            it was, or S3 no longer answers and the message says so.
    """
    listing, connection = read_listing(address), connect()
    found = listing.manifest
    if (found.task, found.source.model, found.source.version) != (task, model, version):
        raise Psi0Error(
            f"{address} holds {found.source.model} version {found.source.version} for {found.task}, not {model} "
            f"version {version} for {task}; nothing was moved"
        )
    before, tag = _fetch(connection, _key(task, channel))
    known = _parse(before) if before is not None else None
    if known is not None and (known.address, known.model, known.version) == (address, model, version):
        return known
    pointer = Pointer(
        task=task,
        bundle=listing.name,
        address=address,
        model=model,
        version=version,
        moved_at=f"{datetime.now(UTC):{_TIME}}",
    )
    _move(connection, _key(task, channel), before, tag, json.dumps(pointer.model_dump(), indent=2).encode())
    return pointer


def announce(address: str, task: str, model: str, version: str) -> Pointer:
    """`point` after every byte of the bundle was read again. Raises `Psi0Error` as `verify` and `point` do."""
    verify(address)
    return point(address, task, model, version)


def read_pointer(task: str, channel: str = CHANNEL) -> Pointer | None:
    """Where a task's channel points, or None before the first publication. Raises `BrokenPointerError`."""
    connection, key = connect(), _key(task, channel)
    content, _ = _fetch(connection, key)
    if content is None:
        return None
    pointer = _parse(content)
    if pointer is None or pointer.task != task or not pointer.address.endswith(f"/{pointer.bundle}"):
        raise BrokenPointerError(
            f"s3://{connection.bucket}/{key} is not a pointer of {task} that this psi0 reads; publish the version "
            "again, which writes a new one"
        )
    return pointer


def pointer_history(task: str, channel: str = CHANNEL) -> list[PointerVersion]:
    """Every state of a channel's pointer that S3 kept, the newest first; without versioning just the present one.

    Raises:
        Psi0Error: S3 cannot be reached or refuses.
    """
    connection, key = connect(), _key(task, channel)
    s3, bucket = storage.client(connection), connection.bucket
    states: list[tuple[bool, str, Any, bool]] = []
    with storage.explained(connection):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
            for kind in ("Versions", "DeleteMarkers"):
                for one in page.get(kind, []):
                    if one["Key"] == key:
                        states.append((one["IsLatest"], one["VersionId"], one["LastModified"], kind != "Versions"))
        found = []
        for _, version_id, written, deleted in sorted(states, key=lambda one: (one[0], one[2]), reverse=True):
            pointer = None
            if not deleted:
                answer = storage.healed(s3.get_object)(Bucket=bucket, Key=key, VersionId=version_id)
                pointer = _parse(answer["Body"].read())
            found.append(PointerVersion(version_id, f"{written.astimezone(UTC):{_TIME}}", pointer, deleted))
    return found


def published(task: str, channel: str = CHANNEL) -> Pointer:
    """Where a channel points. Raises `Psi0Error` before the first publication, or for a broken pointer."""
    pointer = read_pointer(task, channel)
    if pointer is None:
        raise Psi0Error(
            f"no bundle of {task} is published on channel {channel!r} yet; `make recipe` publishes what passes the "
            "gate, or name a bundle"
        )
    return pointer


def _holds(address: str) -> bool:
    """Whether the whole bundle lies there, signed by a key that is trusted now."""
    try:
        verify(address)
    except Psi0Error:
        return False
    return True


def _move(connection: Connection, key: str, before: bytes | None, tag: str | None, content: bytes) -> None:
    """Write the pointer if it is still what it was, and read it back; whatever the write's answer was, that decides."""
    where, s3 = f"s3://{connection.bucket}/{key}", storage.client(connection)
    condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    refused, failure = False, ""
    try:
        with storage.explained(connection):
            try:
                s3.put_object(
                    Bucket=connection.bucket, Key=key, Body=content, ContentType="application/json", **condition
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _LOST_RACE:
                    raise
                refused = True
    except Psi0Error as error:
        failure = str(error)
    try:
        now, _ = _fetch(connection, key)
    except Psi0Error as error:
        raise Psi0Error(
            f"{where}: S3 stopped answering while the pointer moved; whether it did is unknown ({failure or error}). "
            "It names the old bundle or the new one, both whole; publish the version again once S3 answers"
        ) from None
    if now == content:
        return
    if refused or now != before:
        raise PointerMovedError(
            f"{where} was moved by somebody else in the meantime{_said(now)}; theirs stands, look at it "
            "(`psi0 bundle history`) before you publish again"
        )
    raise Psi0Error(
        f"{where}: S3 lost the write of the pointer ({failure or 'it took it, but hands out the old content'}); it is "
        f"where it was{_said(now)}, and the bundle is uploaded: publish the version again"
    )


def _said(content: bytes | None) -> str:
    pointer = _parse(content) if content is not None else None
    return f" (version {pointer.version})" if pointer is not None else ""


def _fetch(connection: Connection, key: str) -> tuple[bytes | None, str | None]:
    """A pointer's content and ETag, or (None, None) where there is none."""
    s3 = storage.client(connection)
    try:
        with storage.explained(connection):
            return storage.read_bytes(s3, connection.bucket, key)
    except FileNotFoundError:
        return None, None


def _parse(content: bytes) -> Pointer | None:
    try:
        return Pointer.model_validate_json(content)
    except ValidationError:
        return None


def _key(task: str, channel: str) -> str:
    for what, name in (("task", task), ("channel", channel)):
        if not _NAME.fullmatch(name):
            raise Psi0Error(f"{what} {name!r} is not a name; it has lower-case letters, digits, '-' and '_'")
    return f"channels/{task}/{channel}.json"
