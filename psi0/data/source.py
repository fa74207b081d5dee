"""Raw episodes ready to be read: recorded into the stage's own output, or elsewhere and followed by their index.

Files that changed or vanished since they were indexed are named. Objects in S3 are fetched into scratch when an episode
needs them. What comes from real EgoDex must not be passed on (CC-BY-NC-ND): it is marked `redistributable: false`, and
its outputs should not be pushed to a shared DVC remote.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from psi0.data.egodex import EgoDex
from psi0.data.episode import Options, RawEpisode, as_psi0_error
from psi0.data.formats import IMPORTERS, detect_format
from psi0.data.frame_list import read_metadata
from psi0.data.index import INDEX, S3, Index, IndexedFile, refuse_format
from psi0.errors import Psi0Error
from psi0.files import folder_files, read_json, sha256_file, sha256_json
from psi0.lineage import fingerprint_folder
from psi0.settings import settings


@dataclass(frozen=True)
class RawSource:
    """A raw dataset, ready to be read episode by episode.

    Attributes:
        label: how messages name it.
        format: name of its importer.
        names: its episodes, in order.
        load: opens one. Raises `BadEpisode`, or `Psi0Error` when a file changed since it was indexed.
        fingerprint: over its files.
        synthetic: made by the recorder.
        redistributable: False where the licence forbids passing on what is made from it (real EgoDex).
    """

    label: str
    format: str
    names: list[str]
    load: Callable[[str], RawEpisode]
    fingerprint: str
    synthetic: bool
    redistributable: bool


def open_raw(folder: Path, accepted: Sequence[str]) -> RawSource:
    """Open the output of a raw stage: recorded episodes, or the index of others.

    Args:
        folder: output of the raw stage.
        accepted: formats that make sense to whoever asks.

    Raises:
        Psi0Error: missing, of another format, or the indexed data has changed.
    """
    if not folder.is_dir():
        raise Psi0Error(f"{folder} is missing; run the stage that makes it (`dvc repro`)")
    source = _open_index(folder) if (folder / INDEX).exists() else _open_recorded(folder)
    refuse_format(source.format, accepted, source.label)
    return source


def _open_recorded(folder: Path) -> RawSource:
    names = [path.as_posix() for path in folder_files(folder)]
    format = detect_format(names, lambda name: (folder / name).read_bytes(), str(folder))
    with as_psi0_error(str(folder)):
        importer = IMPORTERS[format](folder, names)
    synthetic = bool(read_metadata(folder).get("synthetic"))
    return RawSource(
        label=str(folder),
        format=format,
        names=importer.names,
        load=importer.load,
        fingerprint=fingerprint_folder(folder),
        synthetic=synthetic,
        redistributable=format != EgoDex.format or synthetic,
    )


def _open_index(folder: Path) -> RawSource:
    content = read_json(folder / INDEX)
    if not isinstance(content, dict) or content.get("schema_version") != 1:
        raise Psi0Error(f"{folder / INDEX} is of another version; index the source again (`dvc repro --force`)")
    try:
        index = Index.model_validate(content)
    except ValidationError as error:
        raise Psi0Error(
            f"{folder / INDEX} is no index ({error.error_count()} problems); index the source again "
            "(`dvc repro --force` the raw stage)"
        ) from None
    files = _Files(index)
    names = [file.path for file in index.files]
    files.require(IMPORTERS[index.format].group(names).get("", []))
    with as_psi0_error(index.source):
        importer = IMPORTERS[index.format](files.root, names, Options(index.frame_rate, index.camera))
        episodes = importer.names[: index.episodes]

    def load(name: str) -> RawEpisode:
        files.require(importer.files_of(name))
        return importer.load(name)

    return RawSource(
        label=index.source,
        format=index.format,
        names=episodes,
        load=load,
        fingerprint=sha256_json(index.model_dump(include={"files", "frame_rate", "camera"})),
        synthetic=bool(read_metadata(files.root).get("synthetic")),
        redistributable=index.redistributable,
    )


class _Files:
    """The indexed files: checked when they are first needed, fetched before that when they lie in S3."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known = {file.path: file for file in index.files}
        self._checked: set[str] = set()
        self._bucket = None
        if not index.source.startswith(S3):
            self.root = Path(index.source)
            self._refuse_missing()
            return
        from psi0.data.bucket import Bucket

        self._bucket = Bucket(index.source)
        self.root = settings().home / "fetched" / sha256_json(index.model_dump(include={"source", "files"}))[:16]
        self.root.mkdir(parents=True, exist_ok=True)
        wanted = [file.size for file in index.files if not (self.root / file.path).is_file()]
        print(f"{index.source}: {sum(wanted) / 1e6:.0f} MB to fetch into {self.root}, as needed", file=sys.stderr)
        if shutil.disk_usage(self.root).free < sum(wanted):
            size = sum(wanted) / 1e9
            raise Psi0Error(f"{index.source}: {size:.1f} GB do not fit the disk of {self.root}; free some space")

    def _refuse_missing(self) -> None:
        """Sizes first: that is quick, and finds most of what can have happened."""
        wrong = []
        for file in self._index.files:
            path = self.root / file.path
            if not path.is_file():
                wrong.append(f"{path} is missing")
            elif path.stat().st_size != file.size:
                wrong.append(f"{path} changed (size)")
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise Psi0Error(
                f"raw data differs from its index: {'; '.join(wrong[:5])}{more}. Restore it, or index it again "
                "(`dvc repro --force` the raw stage)"
            )

    def require(self, names: Sequence[str]) -> None:
        """Make sure that these files are here and are the ones that were indexed."""
        for name in names:
            if name in self._checked:
                continue
            file, path = self._known[name], self.root / name
            if self._bucket is not None:
                if not self._is_here(file):
                    self._bucket.fetch(name, file.checksum, path)
            elif sha256_file(path) != file.checksum:
                raise Psi0Error(
                    f"{path} changed since it was indexed; restore it, or index it again "
                    "(`dvc repro --force` the raw stage)"
                )
            self._checked.add(name)

    def _is_here(self, file: IndexedFile) -> bool:
        from psi0.data.bucket import is_intact

        path = self.root / file.path
        return path.is_file() and path.stat().st_size == file.size and is_intact(path, file.checksum)
