"""What was kept, what was set aside and why, and whether the numbers look alive: `quality.json`."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from psi0.data.episode import BadEpisode, RawEpisode
from psi0.data.statistics import Statistics
from psi0.errors import Psi0Error
from psi0.files import read_json, write_json

SCHEMA_VERSION = 1
RATE_TOLERANCE = 0.1
"""Largest relative difference between an episode's frame rate and its dataset's."""
GAP = 1.5
"""A pause longer than this many frame intervals counts as a gap."""
STILL = 1e-5
"""A channel whose values span less never moves."""
SLOWEST, FASTEST = 0.5, 1000.0
"""Frame rates outside this range [Hz] mean that time is in another unit."""
SHORTEST = 2
"""Episodes of fewer frames hold no motion."""
HOLE, HOLE_FRAMES = 1.0, 5
"""Two frames further apart than this [s] and this many frame intervals are no longer one motion."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeptEpisode(_Record):
    """An episode that is in the dataset."""

    name: str = Field(description="Path of the episode in its source")
    episode_index: int = Field(description="Index in the prepared dataset")
    frames: int
    frame_rate: float = Field(description="Measured from its time stamps [Hz]")
    gaps: int = Field(description="Pauses longer than 1.5 frame intervals")
    largest_gap: float = Field(description="Longest time between two frames [s]")
    idle_share: float = Field(description="Share of frames in which nothing moves faster than prepare.idle_speed")
    notes: dict[str, float] = Field(default_factory=dict)


class SetAside(_Record):
    """An episode that is not in the dataset."""

    name: str
    reason: str
    category: Literal["bad", "other_robot"] = Field(description="Only `bad` counts against prepare.max_bad_share")


class Channel(_Record):
    """How far one number moves over the whole dataset."""

    name: str
    spread: float = Field(description="Largest minus smallest value")
    std: float


class Quality(_Record):
    """The quality report of a prepared dataset."""

    schema_version: int = SCHEMA_VERSION
    source_format: str
    synthetic: bool
    frame_rate: float = Field(description="Of the prepared dataset [Hz]")
    frames: int
    remarks: list[str] = Field(default_factory=list, description="What was found odd about the whole dataset")
    idle_share: float
    kept: list[KeptEpisode]
    set_aside: list[SetAside]
    channels: dict[str, list[Channel]] = Field(description="Per feature")
    still_channels: list[str] = Field(description="`feature: channel` that never move")

    @property
    def bad_share(self) -> float:
        """Share of bad episodes among those of this robot."""
        return share_of_bad(len(self.kept), self.set_aside)


def share_of_bad(kept: int, set_aside: list[SetAside]) -> float:
    """Share of bad episodes; those of other robots do not count."""
    bad = sum(entry.category == "bad" for entry in set_aside)
    return bad / max(1, bad + kept)


def check_numbers(episode: RawEpisode) -> None:
    """Refuse numbers that cannot be trained on.

    Raises:
        BadEpisode: too short, without an instruction, a column of another length, NaN or infinity, or time running
            backwards.
    """
    if not episode.instruction.strip():
        raise BadEpisode("has no instruction")
    if episode.frames < SHORTEST:
        raise BadEpisode(f"holds {episode.frames} frames; at least {SHORTEST} are needed")
    for name, values in episode.columns.items():
        if len(values) != episode.frames:
            raise BadEpisode(f"{name} holds {len(values)} frames, the episode {episode.frames}")
        broken = np.argwhere(~np.isfinite(values.reshape(len(values), -1)))
        if len(broken):
            raise BadEpisode(f"{name}[{broken[0][1]}] is not a finite number at frame {broken[0][0]}")
    if not np.isfinite(episode.timestamps).all():
        raise BadEpisode("a time stamp is not a finite number")
    backward = np.flatnonzero(np.diff(episode.timestamps) < 0)
    if len(backward):
        raise BadEpisode(f"time stamps run backwards at frame {backward[0] + 1}")


def check_limits(
    values: NDArray[np.float32],
    names: tuple[str, ...],
    limits: dict[str, tuple[float, float]],
    tolerance: float,
    what: str,
) -> None:
    """Refuse joints `(frames, channels)` outside their limits [rad] by more than `tolerance` [rad].

    Raises:
        BadEpisode: naming the joint, the frame, the value and the limit.
    """
    known = [column for column, name in enumerate(names) if name in limits]
    low = np.array([limits[names[column]][0] for column in known])
    high = np.array([limits[names[column]][1] for column in known])
    joints = values[:, known]
    excess = np.maximum(low - joints, joints - high)
    frame, column = np.unravel_index(int(excess.argmax()), excess.shape)
    if excess[frame, column] > tolerance:
        raise BadEpisode(
            f"{what}: {names[known[column]]} is {joints[frame, column]:.3f} at frame {frame}, "
            f"outside [{low[column]:.3f}, {high[column]:.3f}] by more than {tolerance:g} rad"
        )


def measured_rate(timestamps: NDArray[np.float64]) -> float:
    """Frames per second from the median time between frames.

    Raises:
        BadEpisode: time stands still, or cannot be in seconds.
    """
    interval = float(np.median(np.diff(timestamps)))
    if interval <= 0:
        raise BadEpisode("time stamps stand still")
    if not SLOWEST <= 1 / interval <= FASTEST:
        raise BadEpisode(f"wrong frame rate: {1 / interval:.3g} Hz cannot be; are the time stamps in seconds?")
    return 1 / interval


def check_rate(timestamps: NDArray[np.float64], frame_rate: float) -> None:
    """Refuse an episode recorded at another frame rate than its dataset, or with a hole in it.

    Raises:
        BadEpisode: naming both rates, or where the hole is.
    """
    rate = measured_rate(timestamps)
    if abs(rate / frame_rate - 1) > RATE_TOLERANCE:
        raise BadEpisode(f"wrong frame rate: recorded at {rate:.1f} Hz, the dataset is at {frame_rate:g} Hz")
    intervals = np.diff(timestamps)
    if intervals.max() > max(HOLE, HOLE_FRAMES / rate):
        raise BadEpisode(
            f"a hole of {intervals.max():.1f} s after frame {intervals.argmax()}; cut it into two episodes"
        )


def keep(episode: RawEpisode, index: int, idle: NDArray[np.bool_]) -> KeptEpisode:
    """The record of an episode that is kept; `idle` `(frames,)` tells where nothing moves."""
    intervals = np.diff(episode.timestamps)
    rate = measured_rate(episode.timestamps)
    return KeptEpisode(
        name=episode.name,
        episode_index=index,
        frames=episode.frames,
        frame_rate=round(rate, 4),
        gaps=int((intervals > GAP / rate).sum()),
        largest_gap=round(float(intervals.max()), 4),
        idle_share=round(float(idle.mean()), 4),
        notes=episode.notes,
    )


def channels_of(names: tuple[str, ...], statistics: Statistics) -> list[Channel]:
    """How far each channel of a feature moves."""
    spread = statistics["max"].astype(np.float64) - statistics["min"]
    return [
        Channel(name=name, spread=round(float(spread[i]), 6), std=round(float(statistics["std"][i]), 6))
        for i, name in enumerate(names)
    ]


def refuse_too_many_bad(kept: int, set_aside: list[SetAside], largest: float, dataset: str) -> None:
    """Stop when more than `largest` of the episodes are bad, or none is left.

    Raises:
        Psi0Error: one message that names the worst files with their reasons.
    """
    share = share_of_bad(kept, set_aside)
    if kept and share <= largest:
        return
    bad = [entry for entry in set_aside if entry.category == "bad"] or set_aside
    worst = "; ".join(f"{entry.name}: {entry.reason}" for entry in bad[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    what = f"{share:.0%} of its episodes are bad (prepare.max_bad_share is {largest:.0%})"
    raise Psi0Error(
        f"{dataset}: {what if kept else 'no usable episode is left'}. {worst}{more}. "
        "Repair or remove these files, download them again, or raise prepare.max_bad_share"
    )


def read_quality(folder: Path) -> Quality:
    """Read `quality.json` of a prepared dataset.

    Raises:
        Psi0Error: missing, not JSON, or of another version.
    """
    content = read_json(folder / "quality.json")
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found != SCHEMA_VERSION:
        raise Psi0Error(
            f"{folder / 'quality.json'} has schema_version {found}, this psi0 reads {SCHEMA_VERSION}; "
            "prepare the dataset again (`dvc repro`)"
        )
    return Quality.model_validate(content)


def write_quality(folder: Path, quality: Quality) -> None:
    """Write `quality.json`."""
    write_json(folder / "quality.json", quality.model_dump(mode="json"))
