"""A prepared dataset (or anyone's LeRobot v3.0 folder) as training reads it: columns and images by global row."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0.data import image_cache
from psi0.data.episode import BadEpisode
from psi0.data.features import CAMERA
from psi0.data.frames_at import frames_at
from psi0.data.lerobot_layout import LeRobotFolder, alias, read_parquet
from psi0.data.statistics import Statistics, column_values
from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_file, sha256_json

_ENDS_HASHED = 1 << 20


class LeRobotDataset:
    """Read access to one LeRobot v3.0 folder with one camera.

    Rows are counted over the whole dataset in the order of its files. Nothing is loaded before it is asked for.

    Args:
        folder: the dataset.
        camera: camera feature; None takes `observation.images.egocentric`, else the most head-like one.
        cache: keep decoded images in a memory-mapped file under the scratch folder when they fit the budget.

    Raises:
        Psi0Error: the folder is no LeRobot v3.0 dataset, a file is missing or truncated, or no camera fits.
    """

    def __init__(self, folder: Path, camera: str | None = None, cache: bool = True) -> None:
        self.folder = folder
        self._layout = LeRobotFolder(folder)
        if self._layout.major != 3:
            raise Psi0Error(f"{folder} is a LeRobot v2 dataset; give it as a stage's `source`, which converts it")
        self._files = self._layout.data_files
        if not self._files:
            raise Psi0Error(f"{folder} holds no data/*.parquet; download or prepare the dataset again")
        self._use_cache = cache
        self._columns: dict[str, NDArray[Any]] = {}
        self._camera = camera

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes by name: they map the cache themselves."""
        return (LeRobotDataset, (self.folder, self._camera, self._use_cache))

    def __len__(self) -> int:
        """Number of rows (frames)."""
        return len(self._episode_index)

    def names_of(self, column: str) -> list[str]:
        """Names of a vector's numbers; empty when the dataset has none."""
        return self._layout.names_of(alias(column, self._stored) or column)

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self._layout.fps

    @cached_property
    def identity(self) -> dict[str, Any]:
        """`meta/psi0.json` (masks, key points, origin); empty for other people's datasets."""
        path = self.folder / "meta/psi0.json"
        return read_json(path) if path.exists() else {}

    @cached_property
    def _episode_index(self) -> NDArray[np.int64]:
        return self.column("episode_index")

    @cached_property
    def episodes(self) -> list[tuple[int, int]]:
        """Half-open range of global rows of every episode, in order."""
        starts = [0, *(np.flatnonzero(np.diff(self._episode_index)) + 1).tolist(), len(self._episode_index)]
        return list(pairwise(starts))

    def find_episode(self, number: str) -> int:
        """Position in `episodes` of the one that a person names, as in `DATASET#3`; nothing is the first.

        Raises:
            Psi0Error: no number, or there is no such episode.
        """
        last = len(self.episodes) - 1
        if number and not (number.isdecimal() and int(number) <= last):
            raise Psi0Error(f"{self.folder} has episodes 0 to {last}, not {number!r}")
        return int(number or 0)

    def episode_of(self, row: int) -> int:
        """Position in `episodes` of the episode that holds a row."""
        return bisect_right(self._starts, row) - 1

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.episodes]

    def has(self, name: str) -> bool:
        """Whether a column exists."""
        return alias(name, self._stored) is not None

    @cached_property
    def _stored(self) -> list[str]:
        return list(read_parquet(self._files[0], columns=None).column_names)

    def column(self, name: str) -> NDArray[Any]:
        """A column over all rows: `(rows,)` for single numbers, `(rows, size)` for vectors. Do not write into it.

        Raises:
            Psi0Error: there is no such column (the known ones are listed), or it is not numeric.
        """
        if name not in self._columns:
            stored = alias(name, self._stored)
            if stored is None:
                raise Psi0Error(f"{self.folder} has no column {name!r}; it has {', '.join(self._stored)}")
            try:
                parts = [column_values(read_parquet(path, [stored]).column(stored)) for path in self._files]
            except ValueError as error:
                raise Psi0Error(f"{self.folder}: column {stored} cannot be read: {error}") from None
            values = np.concatenate(parts) if len(parts) > 1 else parts[0]
            values.flags.writeable = False
            self._columns[name] = values
        return self._columns[name]

    @cached_property
    def stats(self) -> dict[str, Statistics]:
        """`meta/stats.json` as arrays."""
        content = read_json(self.folder / "meta/stats.json")
        return {name: {key: np.asarray(value) for key, value in entry.items()} for name, entry in content.items()}

    @cached_property
    def tasks(self) -> list[str]:
        """Instructions by task index."""
        return self._layout.tasks

    def instruction(self, row: int) -> str:
        """What the robot or person was told in this row."""
        return self.tasks[int(self.column("task_index")[row])]

    @cached_property
    def camera(self) -> str:
        """Name of the camera feature that `images` reads."""
        cameras = self._layout.cameras
        wanted = self._camera or (CAMERA if CAMERA in cameras else next(iter(cameras), None))
        if wanted not in cameras:
            raise Psi0Error(f"{self.folder} has no camera {wanted or ''}; it has {', '.join(cameras) or 'none'}")
        return str(wanted)

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and 3, as decoded."""
        first = next(iter(self._decode(np.array([0]))))
        return (int(first.shape[0]), int(first.shape[1]), 3)

    def images(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """RGB images of some rows, uint8 `(n, height, width, 3)`, in the order asked for.

        The first call decodes the whole dataset into the cache when that fits the budget (`PSI0_CACHE_GIB`); later
        calls read memory. Larger datasets decode what is asked for.
        """
        wanted = np.asarray(rows, np.int64)
        if self._cached is not None:
            return np.asarray(self._cached[wanted])
        order = np.argsort(wanted, kind="stable")
        result = np.empty((len(wanted), *self.image_shape), np.uint8)
        for position, image in zip(order, self._decode(wanted[order]), strict=True):
            result[position] = image
        return result

    @cached_property
    def _cached(self) -> NDArray[np.uint8] | None:
        if not self._use_cache:
            return None
        return image_cache.load_or_build(
            f"{self.fingerprint}-{self.camera}", (len(self), *self.image_shape), self.episodes, self._decode
        )

    def _decode(self, rows: NDArray[np.int64]) -> "Any":
        """Yield the image of every row; rows ascending, so that each video is read forward."""
        stamps = self.column("timestamp")
        groups: list[tuple[Path, list[float]]] = []
        for row in rows.tolist():
            episode = self.episode_of(row)
            start = self._starts[episode]
            path, begin = self._video_of(int(self._episode_index[start]))
            time = begin + float(stamps[row]) - float(stamps[start])
            time = begin + round((time - begin) * self.fps) / self.fps
            if not groups or groups[-1][0] != path or groups[-1][1][-1] > time:
                groups.append((path, []))
            groups[-1][1].append(time)
        for path, times in groups:
            try:
                yield from frames_at(path, times, self.fps)
            except BadEpisode as error:
                raise Psi0Error(f"{path}: {error}; download or prepare the dataset again") from error

    def _video_of(self, episode_index: int) -> tuple[Path, float]:
        row = self._episode_rows.get(episode_index)
        if row is None:
            raise Psi0Error(f"{self.folder}/meta/episodes does not know episode {episode_index}")
        prefix = f"videos/{self.camera}"
        try:
            chunk, file = int(row[f"{prefix}/chunk_index"]), int(row[f"{prefix}/file_index"])
            begin = float(row[f"{prefix}/from_timestamp"])
        except (KeyError, TypeError):
            raise Psi0Error(f"{self.folder}/meta/episodes says not where {self.camera} of an episode lies") from None
        key = (chunk, file)
        if key not in self._videos:
            path = self._layout.video_file(self.camera, chunk_index=chunk, file_index=file)
            if path is None:
                raise Psi0Error(f"{self.folder}: video chunk {chunk}, file {file} of {self.camera} is missing")
            self._videos[key] = path
        return self._videos[key], begin

    @cached_property
    def _episode_rows(self) -> dict[int, dict[str, Any]]:
        return {int(row["episode_index"]): row for row in self._layout.episode_rows}

    @cached_property
    def _videos(self) -> dict[tuple[int, int], Path]:
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over metadata, data, and the size, beginning and end of every video (an MP4's index lies there)."""
        parts: dict[str, Any] = {}
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            name = path.relative_to(self.folder).as_posix()
            if name.startswith(("meta/", "data/")):
                parts[name] = sha256_file(path)
            elif name.startswith("videos/"):
                parts[name] = _ends(path)
        return sha256_json(parts)


def _ends(path: Path) -> list[Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_ENDS_HASHED)
        file.seek(max(0, size - _ENDS_HASHED))
        return [size, hash_bytes(head), hash_bytes(file.read())]


def hash_bytes(content: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    import hashlib

    return hashlib.sha256(content).hexdigest()
