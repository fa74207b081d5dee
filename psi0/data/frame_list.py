"""`data.json` as a list of frames, the way Unitree teleoperation and Humanoid Everyday record episodes."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0.data.episode import BadEpisode, Grouping, Image, OtherRobot, natural
from psi0.data.video import read_image
from psi0.errors import Psi0Error
from psi0.files import read_json

Frame = dict[str, Any]
_MISSING = object()
SHARED_FILES = ("metadata.json", "task_description_dict.json")
"""Files at a dataset's root that its episodes need."""
PICTURE_FOLDERS = ("color", "colors")
PUBLISHED_RATE = 30.0
"""Frames per second of Humanoid Everyday and of G1 teleoperation where the frames carry no time."""
H1_HAND = 12
"""Numbers in `hand_state` of an H1's two Inspire hands; the two Dex3-1 hands have 14."""


def group(files: Sequence[str]) -> Grouping:
    """Episodes are folders that hold `data.json`, or pictures in `color/` or `colors/`.

    Their pictures count wherever they lie below; depth images and lidar files are left out.
    """
    episodes: dict[str, list[str]] = {}
    for path in map(PurePosixPath, files):
        if path.name == "data.json":
            episodes[path.parent.as_posix()] = []
        elif path.parent.name in PICTURE_FOLDERS:
            episodes[path.parent.parent.as_posix()] = []
    for file in sorted(files):
        path = PurePosixPath(file)
        if path.name == "data.json":
            episodes[path.parent.as_posix()].append(file)
        elif path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            owner = next((each for each in path.parents if each.as_posix() in episodes), None)
            if owner is not None and not str(path.relative_to(owner)).startswith("depth"):
                episodes[owner.as_posix()].append(file)
    shared = [file for file in files if file in SHARED_FILES]
    return {"": shared} | {folder: episodes[folder] for folder in sorted(episodes, key=natural)}


def read_frames(folder: Path) -> list[Frame]:
    """Read the frames of an episode folder.

    Raises:
        BadEpisode: `data.json` is missing, truncated, or not a list of frames.
    """
    return read_frames_and_header(folder)[0]


def read_frames_and_header(folder: Path) -> tuple[list[Frame], dict[str, Any]]:
    """Read the frames of an episode folder, and what stands beside them where they are the `data` of a mapping.

    Raises:
        BadEpisode: `data.json` is missing, truncated, or holds no list of frames.
    """
    path = folder / "data.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadEpisode("data.json is missing") from None
    except (ValueError, OSError) as error:
        raise BadEpisode(f"data.json is truncated or not JSON ({error})") from None
    header = content if isinstance(content, dict) else {}
    if isinstance(header.get("frames"), list):
        raise BadEpisode(
            "data.json holds `frames` of qpos and quat (raw_to_lerobot_v2.py of Psi0), whose joints have no published "
            "order and which hold no commands; convert it to LeRobot with named joints"
        )
    frames = header.get("data") if header else content
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise BadEpisode("data.json is not a list of frames")
    return frames, header


def read_metadata(root: Path) -> dict[str, Any]:
    """`metadata.json` as this project's recorder leaves it; empty where there is none, or somebody else's.

    Raises:
        Psi0Error: it is the recorder's, of an unknown schema version.
    """
    path = root / "metadata.json"
    content = read_json(path) if path.exists() else {}
    if not isinstance(content, dict) or "recorder" not in content:
        return {}
    if content.get("schema_version") != 1:
        raise Psi0Error(f"{path}: unknown schema_version; record the dataset again or remove the file")
    return content


def refuse_other_robots(frames: Sequence[Frame]) -> None:
    """Raise `OtherRobot` for an episode of Unitree's H1 (26 upper-body joints), which not every file names."""
    robot = str(frames[0].get("robot_type") or value_at(frames[0], "states", "robot_type") or "")
    if not robot and np.size(value_at(frames[0], "states", "hand_state") or ()) == H1_HAND:
        robot = "H1 (hand_state holds 12 numbers)"
    if robot.lower().startswith("h1"):
        raise OtherRobot(f"recorded on {robot} (26 upper-body joints); this recipe trains the G1 with Dex3-1 hands")


def action_value(frame: Frame, *keys: str) -> Any:
    """A value under `actions` or `action`: published episodes use either key."""
    found = value_at(frame, "actions", *keys)
    return found if found is not None else value_at(frame, "action", *keys)


def value_at(frame: Frame, *keys: str) -> Any:
    """The value under nested keys, or None."""
    value: Any = frame
    for key in keys:
        value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
        if value is _MISSING:
            return None
    return value


def stack(frames: Sequence[Frame], pick: Callable[[Frame], Any], what: str, size: int) -> NDArray[np.float32]:
    """One number or list of every frame as float32 `(frames, size)`.

    Raises:
        BadEpisode: a frame lacks it, it is no number, or its length is not `size`.
    """
    rows = [pick(frame) for frame in frames]
    for index, row in enumerate(rows):
        if row is None:
            raise BadEpisode(f"{what} is missing at frame {index}")
        length = np.size(row)
        if length != size:
            raise BadEpisode(f"{what} holds {length} numbers at frame {index}, expected {size}")
    try:
        return np.array(rows, np.float64).reshape(len(rows), size).astype(np.float32)
    except (TypeError, ValueError):
        raise BadEpisode(f"{what} holds something that is not a number") from None


def times(frames: Sequence[Frame], stated: float, forced: float = 0) -> NDArray[np.float64]:
    """Time of every frame [s], from 0 on; even steps where the frames carry none.

    Args:
        frames: of one episode.
        stated: frames per second where the frames carry no time.
        forced: frames per second whatever time they carry; 0 believes them.

    Raises:
        BadEpisode: only some frames carry a time.
    """
    values = [frame.get("time") for frame in frames]
    if forced or all(value is None for value in values):
        return np.arange(len(frames)) / (forced or stated)
    try:
        stamps = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise BadEpisode("time is missing or not a number in some frames") from None
    if np.isnan(stamps).any():
        raise BadEpisode("time is missing or not a number in some frames")
    return stamps - stamps[0]


def image_stream(
    folder: Path, frames: Sequence[Frame], picture: Callable[[Frame], Any] = lambda frame: frame.get("image")
) -> Callable[[int, int], Iterator[Image]]:
    """Opens the pictures that the frames name (`image`), or else `color/frame_%06d.jpg`."""

    def open_images(width: int, height: int) -> Iterator[Image]:
        for index, frame in enumerate(frames):
            name = picture(frame)
            path = folder / name if isinstance(name, str) and name else folder / f"color/frame_{index:06d}.jpg"
            if not path.is_file() and (folder / "color" / path.name).is_file():
                path = folder / "color" / path.name
            yield read_image(path, width, height)

    return open_images


def key_points(frames: Sequence[Frame]) -> NDArray[np.float32] | None:
    """Key points `(frames, 5 K)` where the recorder left them (x, y, z [m], u, v per point), else None.

    Raises:
        BadEpisode: only some frames have them, or their number changes.
    """
    first = value_at(frames[0], "psi0", "key_points")
    if first is None:
        return None
    return stack(frames, lambda frame: value_at(frame, "psi0", "key_points"), "psi0.key_points", int(np.size(first)))
