"""One episode of a prepared dataset as people look at it: its pictures, and each number commanded and measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.data.features import ACTION, STATE, valid_columns
from psi0.data.quality import read_quality
from psi0.errors import Psi0Error
from psi0.robot.layout import (
    ACTION_NAMES,
    LEFT_ARM_JOINTS,
    LEFT_HAND_JOINTS,
    LOWER_BODY_COMMANDS,
    RIGHT_ARM_JOINTS,
    RIGHT_HAND_JOINTS,
    UPPER_BODY_JOINTS,
)
from psi0.robot.limits import LIMITS_FILE, load_limits

TOLERANCE = 0.01
"""How far a number may lie beyond its limits before it counts as beyond [rad, m, ...]."""
_COMMAND_UNITS = dict(zip(LOWER_BODY_COMMANDS, ("rad", "rad", "rad", "m", "m/s", "m/s", "rad/s", "rad"), strict=True))
_GROUPS = {
    "Left arm": LEFT_ARM_JOINTS,
    "Right arm": RIGHT_ARM_JOINTS,
    "Left hand": LEFT_HAND_JOINTS,
    "Right hand": RIGHT_HAND_JOINTS,
    "Torso, height and walking": LOWER_BODY_COMMANDS,
}
_PREVIOUS = "previous_"
"""Numbers of the state that repeat a command."""


@dataclass(frozen=True)
class Track:
    """One number over an episode; NaN where a row has none.

    Attributes:
        commanded, measured: `(frames,)`, None where the dataset lacks it.
        limits: lowest and highest value, None where unknown.
    """

    name: str
    unit: str
    commanded: NDArray[np.float64] | None
    measured: NDArray[np.float64] | None
    limits: tuple[float, float] | None

    @property
    def beyond(self) -> int:
        """Frames in which it is commanded or measured beyond its limits."""
        if self.limits is None:
            return 0
        low, high = self.limits[0] - TOLERANCE, self.limits[1] + TOLERANCE
        given = [values for values in (self.commanded, self.measured) if values is not None]
        return int(np.any([(values < low) | (values > high) for values in given], axis=0).sum())


@dataclass(frozen=True)
class Recording:
    """One episode.

    Attributes:
        number: its position in the dataset.
        name: its path in the source; empty where `quality.json` is missing.
        times: `(frames,)` [s].
        images: uint8 `(frames, height, width, 3)`.
        groups: tracks by the part of the robot that they belong to.
        absent: how many numbers of action and state the source does not have.
        has_limits: whether `limits.json` was there.
        synthetic: recorded in simulation; None where the dataset does not say.
    """

    folder: Path
    number: int
    name: str
    instruction: str
    fps: float
    times: NDArray[np.float64]
    images: NDArray[np.uint8]
    groups: dict[str, list[Track]]
    absent: int
    has_limits: bool
    synthetic: bool | None


def split_address(source: str) -> tuple[Path, str]:
    """`DATASET#EPISODE` as folder and episode; the episode is empty where none is named."""
    if Path(source).is_dir():
        return Path(source), ""
    folder, _, episode = source.rpartition("#") if "#" in source else (source, "", "")
    return Path(folder), episode


def read_recording(folder: Path, episode: str, robot: Path = paths.ROBOT) -> Recording:
    """Read one episode of a LeRobot v3.0 dataset.

    Args:
        episode: its number.
        robot: folder of `limits.json`, which may be missing.

    Raises:
        Psi0Error: no dataset, no such episode, or a file that is broken.
    """
    dataset = LeRobotDataset(folder, cache=False)
    number = dataset.find_episode(episode)
    start, end = dataset.episodes[number]
    tracks = list(_tracks(dataset, slice(start, end), _limits(robot)))
    stamps = dataset.column("timestamp")[start:end].astype(np.float64)
    return Recording(
        folder=folder,
        number=number,
        name=_name(folder, int(dataset.column("episode_index")[start])),
        instruction=dataset.instruction(start),
        fps=dataset.fps,
        times=stamps - stamps[0],
        images=dataset.images(range(start, end)),
        groups=_grouped([track for track in tracks if track.commanded is not None or track.measured is not None]),
        absent=sum(track.commanded is None and track.measured is None for track in tracks),
        has_limits=(robot / LIMITS_FILE).exists(),
        synthetic=dataset.identity.get("synthetic"),
    )


def _limits(robot: Path) -> dict[str, tuple[float, float]]:
    if not (robot / LIMITS_FILE).exists():
        return {}
    limits = load_limits(robot)
    pairs = zip(limits.action_low.tolist(), limits.action_high.tolist(), strict=True)
    return dict(zip(ACTION_NAMES, pairs, strict=True))


def _name(folder: Path, index: int) -> str:
    if not (folder / "quality.json").exists():
        return ""
    return next((kept.name for kept in read_quality(folder).kept if kept.episode_index == index), "")


def _tracks(dataset: LeRobotDataset, rows: slice, limits: dict[str, tuple[float, float]]) -> Iterator[Track]:
    commanded, measured = _columns(dataset, ACTION, rows), _columns(dataset, STATE, rows)
    for name in [*commanded, *(name for name in measured if name not in commanded)]:
        if not (name.startswith(_PREVIOUS) and name.removeprefix(_PREVIOUS) in commanded):
            yield Track(name, _unit(name), commanded.get(name), measured.get(name), limits.get(name))


def _columns(dataset: LeRobotDataset, column: str, rows: slice) -> dict[str, NDArray[np.float64] | None]:
    """The numbers of a column by name; None for those that the source does not have."""
    if not dataset.has(column):
        return {}
    values = dataset.column(column)[rows].astype(np.float64)
    values = values.reshape(len(values), -1)
    valid = valid_columns([column, f"{column}.valid"]).get(column)
    if valid is not None and dataset.has(valid):
        values[dataset.column(valid)[rows].reshape(-1) == 0] = np.nan
    names = dataset.names_of(column)
    if len(names) != values.shape[1]:
        names = [f"{column}_{index}" for index in range(values.shape[1])]
    mask = dataset.identity.get(f"{column.split('.')[-1]}_mask") or []
    if len(mask) != len(names):  # Human hands have no joints to mask.
        mask = [1.0] * len(names)
    return {
        name: values[:, index] if there else None for index, (name, there) in enumerate(zip(names, mask, strict=True))
    }


def _unit(name: str) -> str:
    return "rad" if name in UPPER_BODY_JOINTS else _COMMAND_UNITS.get(name, "")


def _grouped(tracks: list[Track]) -> dict[str, list[Track]]:
    """By part of the robot; numbers of another kind by their side."""
    known = {name: group for group, names in _GROUPS.items() for name in names}
    groups: dict[str, list[Track]] = {group: [] for group in _GROUPS}
    for track in tracks:
        side = next((side for side in ("left", "right") if track.name.startswith(f"{side}_")), "other")
        groups.setdefault(known.get(track.name, f"{side} numbers".capitalize()), []).append(track)
    return {group: found for group, found in groups.items() if found}


def choose_episode(dataset: str, episode: int | None) -> tuple[Path, str]:
    """Folder and episode of what a person asks for; the episode is empty where none is named.

    Raises:
        Psi0Error: `DATASET#EPISODE` and `--episode` name different ones.
    """
    folder, named = split_address(dataset)
    if episode is None:
        return folder, named
    if named and named != str(episode):
        raise Psi0Error(f"{dataset} and --episode {episode} name different episodes; leave one out")
    return folder, str(episode)
