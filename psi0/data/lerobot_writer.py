"""LeRobot v3.0 datasets, written exactly as the published format lays them out.

Layout (LeRobot 0.4 and later): `meta/info.json`, `meta/stats.json`, `meta/tasks.parquet`,
`meta/episodes/chunk-000/file-000.parquet`, `data/chunk-000/file-000.parquet` and
`videos/<key>/chunk-000/file-000.mp4`. Many episodes share a file until it reaches its size limit. Equal input gives
equal bytes: no time stamps, no threads that reorder, nothing of this machine.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from psi0.data.lerobot_format import (
    DATA_FILE_MEGABYTES,
    DATA_PATH,
    EPISODES_PATH,
    FILES_PER_CHUNK,
    INDEX_FEATURES,
    TASKS_INDEX,
    TASKS_PATH,
    VIDEO_FILE_MEGABYTES,
    VIDEO_PATH,
    Feature,
    describe_dataset,
)
from psi0.data.statistics import Statistics, describe, describe_files, to_json
from psi0.data.video import VideoFile, VideoFormat
from psi0.files import write_json, write_text

_MEGABYTE = 1 << 20
_EPISODES_PER_ROW_GROUP = 1000


class _Place:
    """Counts files within chunks."""

    def __init__(self) -> None:
        self.chunk = 0
        self.file = 0

    def advance(self) -> None:
        self.file += 1
        if self.file == FILES_PER_CHUNK:
            self.chunk, self.file = self.chunk + 1, 0

    def format(self, template: str, **more: str) -> str:
        return template.format(chunk_index=self.chunk, file_index=self.file, **more)


class LeRobotWriter:
    """Writes one dataset with one camera into an empty folder, episode by episode, then `finish`.

    Args:
        folder: an empty folder.
        features: float32 columns by name; every episode must bring all of them.
        video_key: name of the camera feature.
        form: size, rate and codec of the videos.
        robot_type: goes into `info.json`.
        valid: for columns that hold nothing in some rows, the column that says where they do; statistics of the
            former count those rows only.
        data_megabytes, video_megabytes: size at which a new file is begun.

    Attributes:
        episodes, frames: written so far.
    """

    def __init__(
        self,
        folder: Path,
        features: Mapping[str, Feature],
        video_key: str,
        form: VideoFormat,
        robot_type: str,
        valid: Mapping[str, str] | None = None,
        data_megabytes: float = DATA_FILE_MEGABYTES,
        video_megabytes: float = VIDEO_FILE_MEGABYTES,
    ) -> None:
        self._folder = folder
        self._features = dict(features)
        self._video_key = video_key
        self._form = form
        self._robot_type = robot_type
        self._valid = dict(valid or {})
        self._limits = (data_megabytes, video_megabytes)
        self._schema = pa.schema(
            [(name, _arrow_type(feature.size)) for name, feature in self._features.items()]
            + [(name, pa.type_for_alias(str(entry["dtype"]))) for name, entry in INDEX_FEATURES.items()]
        )
        self._data_place, self._video_place = _Place(), _Place()
        self._data: pq.ParquetWriter | None = None
        self._video: VideoFile | None = None
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._episodes: pq.ParquetWriter | None = None
        self._episodes_place, self._episodes_schema = _Place(), None
        self.episodes = 0
        self.frames = 0

    def add(
        self,
        columns: Mapping[str, NDArray[np.float32]],
        clip: bytes,
        instruction: str,
        image_statistics: Statistics,
    ) -> None:
        """Append one episode: columns `(frames, size)`, a clip of as many frames (`video.encode`), its instruction."""
        length = len(next(iter(columns.values())))
        task = self._tasks.setdefault(instruction, len(self._tasks))
        values: dict[str, NDArray[Any]] = {name: columns[name] for name in self._features}
        frame = np.arange(length)
        values["timestamp"] = (frame / float(self._form.frame_rate)).astype(np.float32)
        values["frame_index"] = frame
        values["episode_index"] = np.full(length, self.episodes)
        values["index"] = self.frames + frame
        values["task_index"] = np.full(length, task)

        row: dict[str, Any] = {"episode_index": self.episodes, "tasks": [instruction], "length": length}
        row |= self._write_rows(values, length)
        row |= self._write_clip(clip)
        statistics = {
            name: describe(value, values[self._valid[name]] if name in self._valid else None)
            for name, value in values.items()
        }
        statistics[self._video_key] = image_statistics
        for name, entry in to_json(statistics).items():
            row |= {f"stats/{name}/{key}": value for key, value in entry.items()}
        self._rows.append(row)
        self.episodes += 1
        self.frames += length
        if len(self._rows) == _EPISODES_PER_ROW_GROUP:
            self._write_episodes()

    def _write_rows(self, values: Mapping[str, NDArray[Any]], length: int) -> dict[str, int]:
        path = self._folder / self._data_place.format(DATA_PATH)
        if self._data is not None and path.stat().st_size >= self._limits[0] * _MEGABYTE:
            self._data.close()
            self._data = None
            self._data_place.advance()
            path = self._folder / self._data_place.format(DATA_PATH)
        if self._data is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pq.ParquetWriter(path, self._schema, compression="snappy", use_dictionary=True)
        arrays = [_arrow_array(values[field.name], field.type) for field in self._schema]
        self._data.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        return {
            "data/chunk_index": self._data_place.chunk,
            "data/file_index": self._data_place.file,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + length,
        }

    def _write_clip(self, clip: bytes) -> dict[str, Any]:
        if self._video is not None and self._video.bytes + len(clip) > self._limits[1] * _MEGABYTE:
            self._video.close()
            self._video = None
            self._video_place.advance()
        if self._video is None:
            name = self._video_place.format(VIDEO_PATH, video_key=self._video_key)
            self._video = VideoFile(self._folder / name, self._form)
        begin, end = self._video.append(clip)
        prefix = f"videos/{self._video_key}"
        return {
            f"{prefix}/chunk_index": self._video_place.chunk,
            f"{prefix}/file_index": self._video_place.file,
            f"{prefix}/from_timestamp": begin,
            f"{prefix}/to_timestamp": end,
        }

    def finish(self, image_statistics: Statistics) -> dict[str, Statistics]:
        """Close all files, write the metadata and return the statistics of the whole dataset."""
        if self._rows:
            self._write_episodes()
        for file in (self._data, self._video, self._episodes):
            if file is not None:
                file.close()
        self._write_tasks()
        files = sorted((self._folder / "data").rglob("*.parquet"))
        sizes = {name: feature.size for name, feature in self._features.items()}
        sizes |= dict.fromkeys(INDEX_FEATURES, 1)
        statistics = {name: describe_files(files, name, size, self._valid.get(name)) for name, size in sizes.items()}
        statistics[self._video_key] = image_statistics
        write_json(self._folder / "meta/stats.json", to_json(statistics))
        totals = (self.episodes, self.frames, len(self._tasks))
        content = describe_dataset(self._features, self._video_key, self._form, self._robot_type, totals)
        info = json.dumps(content, indent=4, ensure_ascii=False)
        write_text(self._folder / "meta/info.json", info + "\n")
        return statistics

    def abandon(self) -> None:
        """Let go of half-written files, whatever state they are in."""
        for file in (self._data, self._video, self._episodes):
            with suppress(Exception):
                if file is not None:
                    file.close()

    def _write_episodes(self) -> None:
        """Move the episodes noted so far to `meta/episodes`."""
        path = self._folder / self._episodes_place.format(EPISODES_PATH)
        if self._episodes is not None and path.stat().st_size >= self._limits[0] * _MEGABYTE:
            self._episodes.close()
            self._episodes = None
            self._episodes_place.advance()
            path = self._folder / self._episodes_place.format(EPISODES_PATH)
        where = {
            "meta/episodes/chunk_index": self._episodes_place.chunk,
            "meta/episodes/file_index": self._episodes_place.file,
        }
        table = pa.Table.from_pylist([row | where for row in self._rows], schema=self._episodes_schema)
        self._episodes_schema = table.schema
        if self._episodes is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._episodes = pq.ParquetWriter(path, table.schema, compression="snappy", use_dictionary=True)
        self._episodes.write_table(table)
        self._rows.clear()

    def _write_tasks(self) -> None:
        table = pa.table({"task_index": pa.array(range(len(self._tasks)), pa.int64()), "task": list(self._tasks)})
        table = table.replace_schema_metadata({"pandas": json.dumps(TASKS_INDEX)})
        pq.write_table(table, self._folder / TASKS_PATH)


def _arrow_type(size: int) -> pa.DataType:
    return pa.float32() if size == 1 else pa.list_(pa.float32(), size)


def _arrow_array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1), pa.float32())
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(np.ascontiguousarray(values).reshape(-1), kind)
