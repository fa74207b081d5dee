"""The index of raw data that lies elsewhere: path, size and checksum of every file that is used.

Real data is never copied: the raw stage writes `index.json`, and the prepare stage follows it. What is not used is
neither hashed nor fetched.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from psi0.data.egodex import EgoDex
from psi0.data.episode import AS_FOUND, Options, as_psi0_error
from psi0.data.formats import IMPORTERS, detect_format
from psi0.errors import Psi0Error
from psi0.files import publish_folder, sha256_file, sha256_json, write_json
from psi0.progress import progress
from psi0.settings import settings

INDEX = "index.json"
S3 = "s3://"


class IndexedFile(BaseModel):
    """One raw file. `checksum` is its SHA-256, or its entity tag in S3."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    size: int
    checksum: str


class Index(BaseModel):
    """Raw episodes that lie elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(1, description="Version of this file's layout")
    source: str = Field(description="Folder or s3:// prefix")
    format: str
    episodes: int = Field(description="The most episodes to use")
    frame_rate: float = Field(0, description="Frames per second whatever the files say [Hz]; 0 believes them")
    camera: str = Field("", description="The camera to use; empty chooses")
    redistributable: bool
    files: list[IndexedFile]


def index_raw(
    source: str,
    format: str,
    episodes: int,
    target: Path,
    accepted: Sequence[str] = tuple(IMPORTERS),
    options: Options = AS_FOUND,
) -> None:
    """Write `target/index.json` for at most `episodes` episodes of a folder or `s3://` prefix.

    Args:
        source: where the data lies.
        format: name of an importer, or `auto`.
        episodes: the most episodes to use, the first in natural order.
        target: output folder of the raw stage; replaced.
        accepted: formats that make sense for this dataset.
        options: what the files do not say.

    Raises:
        Psi0Error: the source does not exist, is of no known or no accepted format, or holds no episode.
    """
    found = _Bucket(source) if source.startswith(S3) else _Folder(source)
    if format == "auto":
        format = detect_format(found.names, found.read, source)
    if format not in IMPORTERS:
        raise Psi0Error(f"format {format!r} does not exist; formats: auto, {', '.join(IMPORTERS)}")
    refuse_format(format, accepted, source)
    with as_psi0_error(source):
        chosen = _chosen(found, format, episodes, options)
    if not chosen:
        raise Psi0Error(f"{source} holds no episode in the format {format}; check the path, or set format to auto")
    files = []
    with progress(f"indexing {source}", len(chosen)) as advance:
        for name in chosen:
            files.append(found.describe(name))
            advance(1)
    index = Index(
        source=source if source.startswith(S3) else str(Path(source).expanduser()),
        format=format,
        episodes=episodes,
        frame_rate=options.frame_rate,
        camera=options.camera,
        redistributable=format != EgoDex.format,
        files=files,
    )
    with publish_folder(target) as folder:
        write_json(folder / INDEX, index.model_dump(mode="json"))
        size = sum(file.size for file in files)
        write_json(folder / "metrics.json", {"files": len(files), "megabytes": round(size / 1e6, 3)})


def refuse_format(format: str, accepted: Sequence[str], label: str) -> None:
    """Raise `Psi0Error` for a format that does not make sense for this dataset."""
    if format not in accepted:
        raise Psi0Error(f"{label} is in the format {format}; this dataset takes {', '.join(accepted)}")


class _Folder:
    """The files of a local source; hidden ones, which downloaders leave, do not count."""

    def __init__(self, source: str) -> None:
        self.root = Path(source).expanduser()
        if not self.root.is_dir():
            raise Psi0Error(f"source {source} is no folder; set it to recorder, a folder or an s3:// prefix")
        self.names = sorted(self._walk())

    def _walk(self) -> Iterator[str]:
        """Through linked folders too, but into none twice: a link may point back up."""
        entered: set[str] = set()
        for folder, inner, files in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            if real in entered:
                inner.clear()
                continue
            entered.add(real)
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            shown = (Path(folder, name).relative_to(self.root) for name in files if not name.startswith("."))
            yield from (path.as_posix() for path in shown)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def at_hand(self, names: Sequence[str]) -> Path:
        """A folder in which these files can be read."""
        return self.root

    def describe(self, name: str) -> IndexedFile:
        path = self.root / name
        return IndexedFile(path=name, size=path.stat().st_size, checksum=sha256_file(path))


class _Bucket:
    """The objects below an S3 prefix."""

    def __init__(self, source: str) -> None:
        from psi0.data.bucket import Bucket

        self._bucket = Bucket(source)
        self._objects = self._bucket.list()
        self.names = sorted(self._objects)

    def read(self, name: str) -> bytes:
        return (self.at_hand([name]) / name).read_bytes()

    def at_hand(self, names: Sequence[str]) -> Path:
        """Fetch these objects. The folder is named by their tags, so that a changed one is fetched again."""
        tags = {name: self._objects[name][1] for name in names}
        folder = settings().home / "fetched" / "probe" / sha256_json([self._bucket.address, tags])[:16]
        for name, tag in tags.items():
            if not (folder / name).is_file():
                self._bucket.fetch(name, tag, folder / name)
        return folder

    def describe(self, name: str) -> IndexedFile:
        size, tag = self._objects[name]
        return IndexedFile(path=name, size=size, checksum=tag)


def _chosen(found: _Folder | _Bucket, format: str, episodes: int, options: Options) -> list[str]:
    """The files that the first episodes are made of; what is not used is neither hashed nor fetched."""
    shared = IMPORTERS[format].group(found.names).get("", [])
    importer = IMPORTERS[format](found.at_hand(shared), found.names, options)
    chosen = importer.names[:episodes]
    return sorted({*shared, *(file for name in chosen for file in importer.files_of(name))}) if chosen else []
