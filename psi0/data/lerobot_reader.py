"""LeRobot folders of other people (v2.1 and v3.0) as raw episodes of the G1.

State and action are mapped by the names of their numbers where those are known, else by length: 32 or 28 state
numbers, 36 or 28 action numbers, in this project's order (which is the published Psi-Zero one). What a dataset lacks
is padding, which the masks say.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image as PillowImage

from psi0.data.episode import AS_FOUND, BadEpisode, Grouping, Image, Importer, Options, RawEpisode, as_psi0_error
from psi0.data.features import ACTION, KEY_POINTS, STATE
from psi0.data.frames_at import frames_at
from psi0.data.lerobot_layout import (
    FileNames,
    LeRobotFolder,
    alias,
    file_name,
    read_json_lines,
    read_parquet,
    shows,
)
from psi0.data.number_names import places
from psi0.data.quality import RATE_TOLERANCE, measured_rate
from psi0.data.statistics import column_values
from psi0.data.teleoperation import STANDING_HEIGHT
from psi0.data.video import decode_images, fit_image
from psi0.errors import Psi0Error
from psi0.robot.layout import ACTION_NAMES, ACTION_SIZE, STATE_NAMES, STATE_SIZE

_HEIGHT = {STATE: "previous_height", ACTION: "height"}
"""A dataset without commands to the lower body was recorded standing: there the height is not zero."""
_CHUNK_2 = 1000


class LeRobotReader(Importer):
    """Importer of LeRobot datasets."""

    format = "lerobot"

    def __init__(self, root: Path, files: Sequence[str], options: Options = AS_FOUND) -> None:
        super().__init__(root, files, options)
        self._folder = LeRobotFolder(root)
        self._files = FileNames(file for file in files if file.startswith(("data/", "videos/", "images/")))
        self._tables: dict[Path, pa.Table] = {}

    @classmethod
    def group(cls, files: Sequence[str]) -> Grouping:
        """The metadata: which files an episode needs stands there."""
        return {"": [file for file in files if file.startswith("meta/") or file == "metadata.json"]}

    @property
    def names(self) -> list[str]:
        """`episode_000000` and so on."""
        return list(self._episodes)

    def files_of(self, name: str) -> list[str]:
        """The metadata, and the data file and the one camera's video that hold the episode."""
        record = self._episodes[name]
        own = [file for file in (self._data_name(record), self._video_name(record)) if file is not None]
        index = int(record["episode_index"])
        pictures = (f"/episode_{index:06d}/", f"/episode-{index:06d}/")
        own += [file for file in self._pictures if any(part in file for part in pictures)]
        return self.grouping[""] + own

    @cached_property
    def _pictures(self) -> list[str]:
        return [file for file in self._files if file.startswith("images/")]

    @cached_property
    def _episodes(self) -> dict[str, dict[str, Any]]:
        path = self.root / "meta/episodes.jsonl"
        rows = self._folder.episode_rows if self._folder.major == 3 else read_json_lines(path)
        if not rows:
            raise Psi0Error(f"{self.root} lists no episodes; download the dataset again")
        with as_psi0_error(str(path)):
            return {f"episode_{int(row['episode_index']):06d}": row for row in rows}

    @cached_property
    def _camera(self) -> str:
        """The one camera of the whole dataset: the one asked for, else the most head-like one that has pictures."""
        cameras, wanted = self._folder.cameras, self.options.camera
        if wanted:
            named = [camera for camera in cameras if wanted in (camera, camera.split(".")[-1])]
        else:
            named = [camera for camera in cameras if self._has_pictures(camera)] or cameras
        if not named:
            known = ", ".join(cameras) or "none"
            raise Psi0Error(f"{self.root} has no camera {wanted}; it has {known}: set `camera` of the dataset")
        return named[0]

    def _has_pictures(self, camera: str) -> bool:
        in_cells = self._folder.info["features"][camera]["dtype"] == "image"
        return in_cells or any(file.startswith("videos/") and shows(camera, file) for file in self._files)

    def load(self, name: str) -> RawEpisode:
        """Open one episode.

        Columns: `observation.state` (frames, 32), `action` (frames, 36), `observation.key_points` when present.

        Raises:
            BadEpisode: a file is missing or truncated, or state or action cannot be mapped to this robot.
        """
        record = self._episodes[name]
        try:
            table = self._rows(record)
        except Psi0Error as error:
            raise BadEpisode(str(error).removeprefix(f"{self.root}/")) from None
        if not table.num_rows:
            raise BadEpisode("holds no rows")
        state, state_mask = self._vector(table, STATE, STATE_NAMES, STATE_SIZE)
        action, action_mask = self._vector(table, ACTION, ACTION_NAMES, ACTION_SIZE)
        columns = {STATE: state, ACTION: action}
        if KEY_POINTS in table.column_names:
            columns[KEY_POINTS] = _numbers(table, KEY_POINTS)
        rate = self.options.frame_rate or self._folder.fps
        stamps = np.arange(table.num_rows) / rate
        if "timestamp" in table.column_names and not self.options.frame_rate:
            stamps = _numbers(table, "timestamp").astype(np.float64)[:, 0]
            stamps = stamps - stamps[0]
        return RawEpisode(
            name=name,
            timestamps=stamps,
            instruction=self._instruction(record, table),
            columns=columns,
            images=self._images(record, table),
            frame_rate=rate,
            action_mask=action_mask,
            state_mask=state_mask,
        )

    def _rows(self, record: dict[str, Any]) -> pa.Table:
        name, index = self._data_name(record), int(record["episode_index"])
        if name is None:
            raise BadEpisode(f"the data file of episode {index} is missing")
        path, tables = self.root / name, self._tables
        if self._folder.major == 2:
            return read_parquet(path)
        if path not in tables:
            self._tables = tables = {path: read_parquet(path)}
        return tables[path].filter(pc.equal(tables[path].column("episode_index"), index))

    def _data_name(self, record: dict[str, Any]) -> str | None:
        template = self._folder.info.get("data_path")
        if self._folder.major == 2:
            place = self._place_2(record)
            found = self._files.find(template, "data", f"episode_{place['episode_index']:06d}.parquet", place)
        else:
            place = {part: int(record[f"data/{part}"]) for part in ("chunk_index", "file_index")}
            found = self._files.find(template, "data", file_name(**place, suffix="parquet"), place)
        return next(iter(found), None)

    def _video_name(self, record: dict[str, Any]) -> str | None:
        template = self._folder.info.get("video_path")
        if self._folder.major == 2:
            place = self._place_2(record)
            ending = f"episode_{place['episode_index']:06d}.mp4"
        else:
            values = {part: record.get(f"videos/{self._camera}/{part}") for part in ("chunk_index", "file_index")}
            if None in values.values():
                return None
            place = {part: int(str(value)) for part, value in values.items()}
            ending = file_name(**place, suffix="mp4")
        found = self._files.find(template, "videos", ending, place | {"video_key": self._camera})
        named = next((file for file in found if shows(self._camera, file)), None)
        return found[0] if named is None and found and len(self._folder.cameras) == 1 else named

    def _place_2(self, record: dict[str, Any]) -> dict[str, int]:
        index = int(record["episode_index"])
        with as_psi0_error(f"{self.root / 'meta/info.json'}"):
            return {
                "episode_chunk": index // int(self._folder.info.get("chunks_size") or _CHUNK_2),
                "episode_index": index,
            }

    def _vector(
        self, table: pa.Table, column: str, names: tuple[str, ...], size: int
    ) -> tuple[NDArray[np.float32], tuple[float, ...]]:
        stored = alias(column, table.column_names)
        if stored is None:
            raise BadEpisode(f"no column {column}; the file has {', '.join(table.column_names)}")
        values = _numbers(table, stored)
        columns = places(self._folder.names_of(stored), values.shape[1], names, stored)
        placed = np.zeros((len(values), size), np.float32)
        placed[:, names.index(_HEIGHT[column])] = STANDING_HEIGHT
        placed[:, columns] = values
        mask = np.zeros(size)
        mask[columns] = 1
        return placed, tuple(mask.tolist())

    def _instruction(self, record: dict[str, Any], table: pa.Table) -> str:
        own, tasks = record.get("instruction"), record.get("tasks")
        if isinstance(own, str) and own.strip():
            return own
        first: Any = tasks[0] if isinstance(tasks, list) and tasks else tasks
        if isinstance(first, str) and first.strip():
            return first
        if not isinstance(first, int) and "task_index" in table.column_names:
            first = table.column("task_index")[0].as_py()
        known = self._folder.tasks
        return known[first] if isinstance(first, int) and 0 <= first < len(known) else ""

    def _images(self, record: dict[str, Any], table: pa.Table) -> Callable[[int, int], Iterator[Image]]:
        name = self._video_name(record)
        if name is None:
            if self._camera in table.column_names:
                return partial(_images_in_cells, table.column(self._camera), self.root)
            raise BadEpisode(f"the video of {self._camera} is missing")
        if self._folder.major == 2:
            return partial(decode_images, self.root / name)
        begin = float(record[f"videos/{self._camera}/from_timestamp"])
        rate = _video_rate(table, self.options.frame_rate or self._folder.fps)
        times = [begin + row / rate for row in range(table.num_rows)]
        return partial(_stretch, self.root / name, times, rate)


def _stretch(video: Path, times: list[float], rate: float, width: int, height: int) -> Iterator[Image]:
    """Version 3: the part of a video that is this episode; whoever reads it counts the frames."""
    return frames_at(video, times, rate, width, height, may_end_early=True)


def _video_rate(table: pa.Table, stated: float) -> float:
    """Frames per second of a video: what is stated, unless the time stamps say something else altogether."""
    if "timestamp" not in table.column_names or table.num_rows < 2:
        return stated
    stamps = _numbers(table, "timestamp").astype(np.float64)[:, 0]
    measured = measured_rate(stamps)
    return stated if abs(measured / stated - 1) <= RATE_TOLERANCE else measured


def _numbers(table: pa.Table, column: str) -> NDArray[np.float32]:
    try:
        values = column_values(table.column(column))
        return values.reshape(len(values), -1).astype(np.float32)
    except (ValueError, TypeError) as error:
        raise BadEpisode(f"{column} cannot be read: {error}") from None


def _images_in_cells(cells: pa.ChunkedArray, root: Path, width: int, height: int) -> Iterator[Image]:
    for cell in cells:
        yield _cell_image(cell.as_py(), root, width, height)


def _cell_image(cell: Any, root: Path, width: int, height: int) -> Image:
    """An image stored in Parquet, as LeRobot does: bytes, or a path."""
    content = cell.get("bytes") if isinstance(cell, dict) else None
    try:
        if content is None and isinstance(cell, dict) and cell.get("path"):
            content = (root / cell["path"]).read_bytes()
        if content is None:
            raise BadEpisode("an image is missing in the data file")
        with PillowImage.open(io.BytesIO(content)) as image:
            return fit_image(image, width, height)
    except (OSError, ValueError) as error:
        raise BadEpisode(f"an image cannot be decoded ({error})") from None
