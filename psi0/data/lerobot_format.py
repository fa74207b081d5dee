"""What LeRobot v3.0 calls its files, columns and metadata (LeRobot 0.4 and later)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psi0.data.video import VideoFormat

VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_FILE_MEGABYTES = 100
VIDEO_FILE_MEGABYTES = 200

PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{PLACE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{PLACE}.mp4"
EPISODES_PATH = f"meta/episodes/{PLACE}.parquet"
TASKS_PATH = "meta/tasks.parquet"

INDEX_FEATURES = {
    name: {"dtype": dtype, "shape": [1], "names": None}
    for name, dtype in (
        ("timestamp", "float32"),
        ("frame_index", "int64"),
        ("episode_index", "int64"),
        ("index", "int64"),
        ("task_index", "int64"),
    )
}
"""The columns that every LeRobot dataset has; the writer fills them in."""


@dataclass(frozen=True)
class Feature:
    """A float32 column of `size` numbers with their names."""

    size: int
    names: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Its entry in `info.json`."""
        return {"dtype": "float32", "shape": [self.size], "names": list(self.names)}


TASKS_INDEX = {
    "index_columns": ["task"],
    "column_indexes": [],
    "columns": [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {
            "name": "task",
            "field_name": "task",
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": None,
        },
    ],
    "pandas_version": "2.0.0",
}
"""Tells pandas that the task texts are the index of `tasks.parquet`, which is how LeRobot looks them up."""


def describe_dataset(
    columns: Mapping[str, Feature], video_key: str, form: VideoFormat, robot_type: str, totals: tuple[int, int, int]
) -> dict[str, Any]:
    """`meta/info.json` of a dataset with one camera; `totals` are episodes, frames and tasks."""
    rate = _plain(float(form.frame_rate))
    episodes, frames, tasks = totals
    video = {
        "dtype": "video",
        "shape": [form.height, form.width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": form.height,
            "video.width": form.width,
            "video.codec": form.codec,
            "video.pix_fmt": form.pixel_format,
            "video.is_depth_map": False,
            "video.fps": rate,
            "video.channels": 3,
            "has_audio": False,
        },
    }
    vectors = {name: feature.describe() for name, feature in columns.items()}
    return {
        "codebase_version": VERSION,
        "robot_type": robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_FILE_MEGABYTES,
        "video_files_size_in_mb": VIDEO_FILE_MEGABYTES,
        "fps": rate,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": {video_key: video} | vectors | INDEX_FEATURES,
    }


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number
