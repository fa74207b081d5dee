"""EgoDex (Apple, arXiv 2505.11709): `<part>/<task>/<N>.hdf5` with poses and `<N>.mp4` with the video, 30 Hz.

`transforms/<name>` `(frames, 4, 4)` are poses in an ARKit world whose origin differs between episodes; `camera` looks
along its z axis, x right, y down. Attributes and confidences may be missing or be the text 'None'. Real EgoDex comes
under CC-BY-NC-ND: neither it nor what is made from it may be passed on, so prepared datasets of it are marked
`redistributable: false` and must never be pushed to a shared remote.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import av
import av.error
import h5py
import numpy as np
from numpy.typing import NDArray

from psi0.data.episode import BadEpisode, Grouping, Importer, RawEpisode, humanise, in_short, natural
from psi0.data.video import decode_images
from psi0.robot.layout import SIDES

FRAME_RATE = 30.0
CAMERA = "camera"
WRISTS = tuple(f"{side}Hand" for side in SIDES)
TIPS = tuple(
    tuple(f"{side}{finger}Tip" for finger in ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger"))
    for side in SIDES
)
TRACKED = "tracked"
"""Raw column `(frames, 1)`: 0 where the file is not confident at all of a wrist."""
LONGEST_REACH = 2.0
"""No wrist is further from the camera on one's head than this [m]."""
_SQUARE = 0.01
"""Largest deviation of a rotation from a rotation."""
NEEDED = (CAMERA, *WRISTS, *TIPS[0], *TIPS[1])
"""The 13 of 69 transforms that stage 1 is made of."""


class EgoDex(Importer):
    """Importer of EgoDex."""

    format = "egodex"

    @classmethod
    def group(cls, files: Sequence[str]) -> Grouping:
        """Pairs of equal name; one of the pair may be missing (a partial download)."""
        episodes: dict[str, list[str]] = {}
        for file in sorted(files):
            path = PurePosixPath(file)
            if path.suffix in (".hdf5", ".mp4"):
                episodes.setdefault(path.with_suffix("").as_posix(), []).append(file)
        shared = [file for file in files if file == "metadata.json"]
        return {"": shared} | {name: episodes[name] for name in sorted(episodes, key=natural)}

    def load(self, name: str) -> RawEpisode:
        """Open one pair of files.

        Columns: every needed transform by its name, `(frames, 16)`, row by row; `tracked` `(frames, 1)`.

        Raises:
            BadEpisode: a file is missing or truncated, or a needed transform is missing or misshapen.
        """
        poses, video = (self.root / f"{name}{suffix}" for suffix in (".hdf5", ".mp4"))
        if not poses.is_file():
            raise BadEpisode(f"{poses.name} (the poses) is missing")
        if not video.is_file():
            raise BadEpisode(f"{video.name} (the video) is missing")
        try:
            with h5py.File(poses, "r") as file:
                columns = {joint: _transform(file, joint) for joint in NEEDED}
                instruction = _instruction(file.attrs) or humanise(PurePosixPath(name).parent.name)
                confidence = _confidence(file)
        except (OSError, RuntimeError, ValueError) as error:
            raise BadEpisode(f"{poses.name} is truncated or no HDF5 file ({in_short(error)})") from None
        frames = len(columns[CAMERA])
        tracked = np.ones((frames, 1), np.float32)
        if confidence is not None and confidence.shape == (frames, len(WRISTS)):
            tracked[:, 0] = (confidence > 0).all(axis=1)
        rate = self.options.frame_rate or _video_rate(video)
        finite = confidence[np.isfinite(confidence)] if confidence is not None else np.empty(0)
        notes = {"wrist_confidence": round(float(finite.mean()), 4)} if len(finite) else {}
        if not tracked.all():
            notes["tracked_share"] = round(float(tracked.mean()), 4)
        return RawEpisode(
            name=name,
            timestamps=np.arange(frames) / rate,
            instruction=instruction,
            columns=columns | {TRACKED: tracked},
            images=lambda width, height: decode_images(video, width, height),
            notes=notes,
        )


def _transform(file: h5py.File, joint: str) -> NDArray[np.float32]:
    entry = file.get(f"transforms/{joint}")
    if not isinstance(entry, h5py.Dataset):
        raise BadEpisode(f"transforms/{joint} is missing")
    if entry.ndim != 3 or entry.shape[1:] != (4, 4):
        raise BadEpisode(f"transforms/{joint} has shape {entry.shape}, expected (frames, 4, 4)")
    return np.asarray(entry[()], np.float32).reshape(len(entry), 16)


def _instruction(attributes: Any) -> str | None:
    """The description that belongs to this direction of a reversible task, or what there is."""
    second = _text(attributes, "which_llm_description") == "2"
    keys = ("llm_description", "llm_description2", "description", "task")
    if second:
        keys = ("llm_description2", "llm_description", "description", "task")
    return next((text for key in keys if (text := _text(attributes, key))), None)


def _text(attributes: Any, key: str) -> str | None:
    value = attributes.get(key)
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else None
    if value is None or isinstance(value, h5py.Empty):
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return None if text.strip() in ("", "None", "nan") else text.strip()


def _confidence(file: h5py.File) -> NDArray[np.float64] | None:
    """Confidence `(frames, 2)` that each wrist is seen, or None where the file does not say."""
    found = [file.get(f"confidences/{wrist}") for wrist in WRISTS]
    values = [entry[()] for entry in found if isinstance(entry, h5py.Dataset) and entry.dtype.kind == "f"]
    if len(values) != len(WRISTS) or len({value.shape for value in values}) != 1 or values[0].ndim != 1:
        return None
    return np.stack(values, axis=1).astype(np.float64)


def check_poses(episode: RawEpisode) -> None:
    """Refuse poses that cannot be: hands out of reach, rotations that are none. Untracked frames do not count.

    Raises:
        BadEpisode: naming the transform.
    """
    rows = episode.columns[TRACKED][:, 0] > 0
    if not rows.any():
        return
    poses = {name: episode.columns[name][rows].astype(np.float64).reshape(-1, 4, 4) for name in (CAMERA, *WRISTS)}
    for name, pose in poses.items():
        axes = pose[:, :3, :3]
        deviation = np.abs(axes @ axes.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2))
        if deviation.max() > _SQUARE or (np.linalg.det(axes) < 0).any():
            raise BadEpisode(f"transforms/{name} is no rotation at frame {np.flatnonzero(rows)[deviation.argmax()]}")
        reach = float(np.median(np.linalg.norm(pose[:, :3, 3] - poses[CAMERA][:, :3, 3], axis=1)))
        if reach > LONGEST_REACH:
            raise BadEpisode(f"transforms/{name} lies {reach:.3g} m from the camera; are the transforms in metres?")


def _video_rate(video: Any) -> float:
    try:
        with av.open(str(video), "r") as container:
            if not container.streams.video:
                raise BadEpisode(f"{video.name} holds no video stream")
            rate = container.streams.video[0].average_rate
    except (av.error.FFmpegError, OSError) as error:
        raise BadEpisode(f"{video.name} cannot be opened ({in_short(error)}); it may be truncated") from None
    return float(rate) if rate else FRAME_RATE
