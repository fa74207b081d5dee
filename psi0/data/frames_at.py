"""Frames of a video by time, in one forward pass where the times lie close together, by seeking where they do not."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import av.error
from av.video.reformatter import VideoReformatter

from psi0.data.episode import BadEpisode, Image, in_short
from psi0.data.video import resized

SEEK_AHEAD = 1.0
"""Seek when the next wanted frame lies further ahead than this [s]; else decoding on is quicker. Doubled by each seek
that lands no further than decoding had come: there the key frames lie wider apart."""


def frames_at(
    path: Path,
    times: Sequence[float],
    frame_rate: float,
    width: int | None = None,
    height: int | None = None,
    may_end_early: bool = False,
) -> Iterator[Image]:
    """Yield the RGB frame nearest to each time.

    Args:
        path: the video.
        times: ascending [s].
        frame_rate: frames per second; the frame found lies within half an interval.
        width, height: resize to this, or None to leave the size.
        may_end_early: stop where the video ends, for callers that count.

    Raises:
        BadEpisode: the file is missing, is no video, breaks, or ends before a wanted time.
    """
    if not times:
        return
    slack = 0.5 / frame_rate
    try:
        with av.open(str(path), "r") as container:
            if not container.streams.video:
                raise BadEpisode(f"{path.name} holds no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            converter = VideoReformatter()
            frames: Iterator[Any] = container.decode(stream)
            wanted, position, ahead = 0, -1 / frame_rate, SEEK_AHEAD
            sought = -1
            left: float | None = None
            while wanted < len(times):
                if times[wanted] - position > ahead and sought != wanted:
                    frames = _seek(container, stream, times[wanted] - slack)
                    sought, left = wanted, position
                frame = next(frames, None)
                if frame is None:
                    if may_end_early:
                        return
                    raise BadEpisode(
                        f"{path.name} ends before {times[wanted]:.3f} s ({len(times) - wanted} frames missing); "
                        "it may be truncated"
                    )
                position = float(frame.time) if frame.time is not None else position + 1 / frame_rate
                if left is not None and position <= left + slack:
                    ahead *= 2
                left = None
                if position < times[wanted] - slack:
                    continue
                image = resized(frame, width or frame.width, height or frame.height, converter)
                while wanted < len(times) and position >= times[wanted] - slack:
                    yield image
                    wanted += 1
    except FileNotFoundError:
        raise BadEpisode(f"video {path.name} is missing") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadEpisode(f"{path.name} cannot be decoded ({in_short(error)}); it may be truncated") from error


def _seek(container: Any, stream: Any, seconds: float) -> Iterator[Any]:
    container.seek(max(0, int(seconds / stream.time_base)), stream=stream, backward=True)
    return container.decode(stream)
