"""One recorded episode as a Rerun file (`.rrd`), for whoever has Rerun: `rerun FILE` opens it."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from psi0.files import temporary_name
from psi0.watch.recording import Recording

INSTALL = "pip install rerun-sdk"
_JPEG_QUALITY = 92


def has_rerun() -> bool:
    """Whether `rerun-sdk` is installed; this project does not install it by itself."""
    return importlib.util.find_spec("rerun") is not None


def write_rerun(file: Path, recording: Recording) -> None:
    """Write an episode's pictures and numbers, by time [s]. Limits are drawn as lines of their own.

    Args:
        file: ends in `.rrd`.
    """
    rerun: Any = importlib.import_module("rerun")
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(file)
    stream = rerun.RecordingStream("psi0", recording_id=f"{recording.folder.name}-{recording.number}")
    stream.save(temporary)
    stream.log("instruction", rerun.TextDocument(recording.instruction), static=True)
    for time, image in zip(recording.times, recording.images, strict=True):
        stream.set_time("time", duration=float(time))
        stream.log("head_camera", rerun.Image(image).compress(jpeg_quality=_JPEG_QUALITY))
    times = rerun.TimeColumn("time", duration=recording.times)
    ends = rerun.TimeColumn("time", duration=recording.times[[0, -1]])
    for group, tracks in recording.groups.items():
        for track in tracks:
            place = f"{group.lower().replace(' ', '_').replace(',', '')}/{track.name}"
            for name, values in (("commanded", track.commanded), ("measured", track.measured)):
                if values is not None:
                    stream.send_columns(f"{place}/{name}", [times], rerun.Scalars.columns(scalars=values))
            for name, limit in zip(("low", "high"), track.limits or (), strict=False):
                stream.send_columns(f"{place}/{name}", [ends], rerun.Scalars.columns(scalars=[limit, limit]))
    stream.disconnect()
    temporary.replace(file)
