"""A version's evidence as its store holds it now: the SHA-256 of every file, and the small ones to read.

Where the artifacts lie on S3 a listing tells which objects changed since their bytes were last read (entity tag, size
and time of writing); only those are read again, so that a registry of a hundred versions is audited in seconds.
Elsewhere (MLflow of somebody else, a folder) everything is fetched through MLflow.
"""

import hashlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0 import storage
from psi0.connection import Connection, connect
from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_files, write_json
from psi0.registry.tracking import TrackingDownError
from psi0.registry.versions import EVIDENCE, Version, download_evidence
from psi0.settings import settings

_TEXT = (".json", ".yaml", ".lock")
_READ_OF_GRAPHS = ("graphs/manifest.json", "graphs/parity.json")
_PROXIED = "mlflow-artifacts:/"
_PROXIED_PREFIX = "mlflow"
"""Prefix of the bucket that the local MLflow server keeps artifacts below (the same as in infra/services)."""


@dataclass(frozen=True)
class StoredEvidence:
    """The evidence of one version.

    Attributes:
        hashes: SHA-256 of every file, by its path below `evidence/`.
        folder: holds at least what a verdict and a lineage are read from: JSON, YAML, `dvc.lock`, and of the graphs
            their manifest and parity report.
    """

    hashes: Mapping[str, str]
    folder: Path

    @property
    def graph_hashes(self) -> dict[str, str]:
        """SHA-256 of every file of the graphs."""
        return {name.removeprefix("graphs/"): sha for name, sha in self.hashes.items() if name.startswith("graphs/")}


class _Known(BaseModel):
    """An object whose bytes were read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stamp: str = Field(description="Entity tag, size and time of writing")
    sha256: str


class _Cache(BaseModel):
    """`audit/objects.json`: what was read, by s3:// address."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    objects: dict[str, _Known] = Field(default_factory=dict)


class ObjectReader:
    """Hashes of S3 objects, each read once as long as it does not change; safe to use from several threads."""

    def __init__(self, connection: Connection, reread: bool = False) -> None:
        """`reread` forgets what was read before."""
        self.connection = connection
        self.bytes_read = 0
        self.objects = 0
        self._s3 = storage.client(connection)
        self._file = settings().home / "audit" / "objects.json"
        self._before = {} if reread else _load(self._file)
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def listing(self, bucket: str, prefix: str) -> dict[str, str]:
        """Key below a prefix -> stamp. Raises `Psi0Error` when S3 cannot be reached."""
        found: dict[str, str] = {}
        with storage.explained(self.connection, bucket):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    stamp = f"{item['ETag']} {item['Size']} {item['LastModified'].isoformat()}"
                    found[item["Key"].removeprefix(prefix)] = stamp
        return found

    def sha256(self, bucket: str, key: str, stamp: str) -> str:
        """SHA-256 of an object, read again only when its stamp is another one than last time. Raises `Psi0Error`."""
        address = f"s3://{bucket}/{key}"
        known = self._known.get(address) or self._before.get(address)
        if known is None or known.stamp != stamp:
            digest, size = hashlib.sha256(), 0
            with self._explained(bucket, key):
                answer: Any = storage.healed(self._s3.get_object)(Bucket=bucket, Key=key)
                for chunk in answer["Body"].iter_chunks(1 << 20):
                    digest.update(chunk)
                    size += len(chunk)
            known = self._remember(address, stamp, digest.hexdigest(), size)
        else:
            self._remember(address, stamp, known.sha256, 0)
        return known.sha256

    def read(self, bucket: str, key: str, stamp: str) -> tuple[bytes, str]:
        """A small object and its SHA-256, read now whatever is known. Raises `Psi0Error`."""
        with self._explained(bucket, key):
            content: bytes = storage.healed(self._s3.get_object)(Bucket=bucket, Key=key)["Body"].read()
        digest = hashlib.sha256(content).hexdigest()
        self._remember(f"s3://{bucket}/{key}", stamp, digest, len(content))
        return content, digest

    def keep(self, everything: bool = False) -> None:
        """Remember what was read for the next time; after `everything`, nothing else is remembered."""
        before = {} if everything else self._before
        write_json(self._file, _Cache(objects={**before, **self._known}).model_dump(mode="json"))

    @contextmanager
    def _explained(self, bucket: str, key: str) -> Iterator[None]:
        try:
            with storage.explained(self.connection, bucket):
                yield
        except FileNotFoundError:
            raise Psi0Error(f"s3://{bucket}/{key} vanished while it was read; run this again") from None

    def _remember(self, address: str, stamp: str, sha256: str, size: int) -> _Known:
        known = _Known(stamp=stamp, sha256=sha256)
        with self._lock:
            self.objects += 1
            self.bytes_read += size
            self._known[address] = known
        return known


@contextmanager
def open_evidence(client: MlflowClient, version: Version, reader: ObjectReader) -> Iterator[StoredEvidence]:
    """A version's evidence for the length of a `with` block; what is gone is not in it.

    Raises:
        Psi0Error: the version has no run, or its store cannot be reached.
    """
    place = s3_place(version.source)
    with tempfile.TemporaryDirectory(prefix="psi0-evidence-") as temporary:
        if place is None:
            folder = _fetch(client, version, Path(temporary))
            yield StoredEvidence(sha256_files(folder), folder)
            return
        bucket, prefix = place
        stamps = reader.listing(bucket, prefix)
        folder, hashes = Path(temporary) / EVIDENCE, {}
        for name, stamp in stamps.items():
            if _is_read(name):
                content, hashes[name] = reader.read(bucket, prefix + name, stamp)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            else:
                hashes[name] = reader.sha256(bucket, prefix + name, stamp)
        yield StoredEvidence(hashes, folder)


def s3_place(source: str) -> tuple[str, str] | None:
    """(bucket, prefix with a slash at its end) of an artifact address, or None where it cannot be known."""
    if source.startswith("s3://"):
        bucket, prefix = storage.split_address(source)
        return bucket, f"{prefix}/"
    if source.startswith(_PROXIED) and settings().mlflow_uri is None:
        return connect().bucket, f"{_PROXIED_PREFIX}/{source.removeprefix(_PROXIED).strip('/')}/"
    return None


def _fetch(client: MlflowClient, version: Version, folder: Path) -> Path:
    try:
        return download_evidence(client, version, folder)
    except TrackingDownError:
        raise
    except Psi0Error:
        return folder


def _is_read(name: str) -> bool:
    if name.startswith("/") or ".." in Path(name).parts:
        return False
    return name in _READ_OF_GRAPHS or (name.endswith(_TEXT) and not name.startswith("graphs/"))


def _load(file: Path) -> dict[str, _Known]:
    if not file.exists():
        return {}
    try:
        return _Cache.model_validate(read_json(file)).objects
    except (Psi0Error, ValidationError):
        return {}
