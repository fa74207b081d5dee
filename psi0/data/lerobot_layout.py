"""Reads the metadata of LeRobot folders as they are found, not as they are documented: versions 2.1 and 3.0.

Folders in the wild declare features that do not exist, name path templates that fit no file, nest the names of a
vector, and call the state `state`, `states` or `observation.state`. What is needed is looked for; what is declared
but not needed is ignored.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from psi0.data.episode import as_psi0_error, in_short
from psi0.errors import Psi0Error
from psi0.files import read_json

ALIASES = {
    "observation.state": ("observation.state", "state", "states", "observation.states", "observation/state"),
    "action": ("action", "actions"),
}
"""Names under which the state and the action are found, most usual first."""
_HEAD_WORDS = ("egocentric", "ego", "head", "high", "front", "top")
_HAND_WORDS = ("wrist", "hand", "gripper")


def alias(name: str, present: Iterable[str]) -> str | None:
    """The name under which a column is present, or None."""
    available = set(present)
    return next((each for each in ALIASES.get(name, (name,)) if each in available), None)


def flat_names(names: Any) -> list[str]:
    """Names of a vector's numbers, whether they come as a list, nested lists, or a mapping."""
    if isinstance(names, str):
        return [names]
    if isinstance(names, dict):
        if names and all(isinstance(value, int) for value in names.values()):
            return [name for name, _ in sorted(names.items(), key=lambda item: item[1])]
        return [name for value in names.values() for name in flat_names(value)]
    if isinstance(names, Sequence):
        return [name for value in names for name in flat_names(value)]
    return []


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises:
        Psi0Error: it is missing, truncated, or no Parquet file.
    """
    try:
        return pq.read_table(path, columns=columns, memory_map=True)
    except FileNotFoundError:
        raise Psi0Error(f"{path} is missing; download or prepare the dataset again") from None
    except (pa.ArrowException, OSError) as error:
        raise Psi0Error(f"{path} is truncated or no Parquet file ({in_short(error)}); download it again") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a `.jsonl` file. Raises `Psi0Error` naming the line that is broken."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise Psi0Error(f"{path} is missing; download the dataset again") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise Psi0Error(f"{path}: line {number} is not JSON ({error}); it may be truncated") from None
    return records


@dataclass(frozen=True)
class LeRobotFolder:
    """A LeRobot dataset folder."""

    root: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        """`meta/info.json`."""
        content = read_json(self.root / "meta/info.json")
        if not isinstance(content, dict) or not isinstance(content.get("features"), dict):
            raise Psi0Error(f"{self.root / 'meta/info.json'} describes no features; this is no LeRobot dataset")
        return content

    @cached_property
    def major(self) -> int:
        """2 or 3. Raises `Psi0Error` for other versions."""
        version = str(self.info.get("codebase_version", ""))
        if version.startswith("v3."):
            return 3
        if version.startswith("v2."):
            return 2
        raise Psi0Error(
            f"{self.root / 'meta/info.json'}: codebase_version {version!r} is not read here; "
            "convert the dataset to v3.0 with LeRobot's converters"
        )

    @property
    def fps(self) -> float:
        """Frames per second."""
        try:
            fps = float(self.info["fps"])
        except (KeyError, TypeError, ValueError):
            raise Psi0Error(f"{self.root / 'meta/info.json'}: fps is missing or no number") from None
        if not fps > 0:
            raise Psi0Error(f"{self.root / 'meta/info.json'}: fps must be positive, found {fps:g}")
        return fps

    @cached_property
    def cameras(self) -> list[str]:
        """Camera features, the one that sees most like the robot's head first."""

        def rank(name: str) -> int:
            last = name.lower().split(".")[-1]
            if any(word in last for word in _HAND_WORDS):
                return len(_HEAD_WORDS) + 1
            return next((i for i, word in enumerate(_HEAD_WORDS) if word in last), len(_HEAD_WORDS))

        with as_psi0_error(f"{self.root / 'meta/info.json'}"):
            features = self.info["features"]
            keys = [name for name, entry in features.items() if entry.get("dtype") in ("video", "image")]
        return sorted((key for key in keys if "depth" not in key.lower()), key=rank)

    def names_of(self, column: str) -> list[str]:
        """Names of a vector's numbers; empty when the dataset has none."""
        return flat_names((self.info["features"].get(column) or {}).get("names"))

    @cached_property
    def tasks(self) -> list[str]:
        """Task texts by task index."""
        path = self.root / "meta/tasks.parquet"
        found: dict[int, str] = {}
        if path.exists():
            table = read_parquet(path).to_pydict()
            texts: list[Any] = next((values for name, values in table.items() if name != "task_index"), [])
            with as_psi0_error(str(path)):
                found = dict(zip(table.get("task_index", range(len(texts))), map(str, texts), strict=True))
        elif (path := self.root / "meta/tasks.jsonl").exists():
            with as_psi0_error(str(path)):
                for record in read_json_lines(path):
                    found[int(record["task_index"])] = str(record.get("description") or record.get("task") or "")
        return [found.get(index, "") for index in range(max(found, default=-1) + 1)]

    @cached_property
    def data_files(self) -> list[Path]:
        """Every Parquet file of data, in order."""
        return sorted((self.root / "data").rglob("*.parquet"))

    @cached_property
    def episode_rows(self) -> list[dict[str, Any]]:
        """Version 3: one record per episode, without its statistics, in order of `episode_index`."""
        rows: list[dict[str, Any]] = []
        for path in sorted((self.root / "meta/episodes").rglob("*.parquet")):
            table = read_parquet(path)
            rows += table.select([name for name in table.column_names if not name.startswith("stats/")]).to_pylist()
        with as_psi0_error(f"{self.root / 'meta/episodes'}"):
            return sorted(rows, key=lambda row: int(row["episode_index"]))

    def video_file(self, camera: str, chunk_index: int, file_index: int) -> Path | None:
        """Version 3: a video by the template in `info.json`, or, where that fits no file, by its name."""
        place = {"video_key": camera, "chunk_index": chunk_index, "file_index": file_index}
        template, ending = self.info.get("video_path"), file_name(chunk_index, file_index, "mp4")
        found = self._videos.find(template, "videos", ending, place)
        named = next((file for file in found if shows(camera, file)), None)
        if named is None and len(self.cameras) == 1:
            named = next(iter(found), None)
        return None if named is None else self.root / named

    @cached_property
    def _videos(self) -> "FileNames":
        return FileNames(path.relative_to(self.root).as_posix() for path in (self.root / "videos").rglob("*.mp4"))


def file_name(chunk_index: int, file_index: int, suffix: str) -> str:
    """How the path of a version 3 file ends."""
    return f"chunk-{chunk_index:03d}/file-{file_index:03d}.{suffix}"


def shows(camera: str, file: str) -> bool:
    """Whether the path of a video names this camera, by its whole name or its last part."""
    return bool({camera, camera.split(".")[-1]} & set(PurePosixPath(file).parts))


class FileNames:
    """Names of a dataset's files, found by a template or by how they end, without looking at the disk."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._endings: dict[str, list[str]] = {}
        for name in sorted(self._names):
            parts = PurePosixPath(name).parts
            for ending in {parts[-1], "/".join(parts[-2:])}:
                self._endings.setdefault(ending, []).append(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def find(self, template: Any, folder: str, ending: str, place: dict[str, Any]) -> list[str]:
        """The file that a template such as `data/chunk-{chunk_index:03d}/...` names, else those that end like this."""
        if isinstance(template, str):
            with suppress(LookupError, ValueError):
                if (exact := template.format(**place)) in self._names:
                    return [exact]
        return [name for name in self._endings.get(ending, []) if name.startswith(f"{folder}/")]
