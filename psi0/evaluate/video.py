"""Small videos of episodes: what the policy saw on the left, the robot from outside on the right."""

import io
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from psi0.data.video import REPEATABLE_X264

if TYPE_CHECKING:
    from psi0.evaluate.controls import Eyes
    from psi0.evaluate.rollout import World

HEIGHT = 192
WIDTH = 256
_QUALITY = "27"


class Mp4:
    """An MP4 (H.264) in the making: pictures go in one by one, so a long film needs no memory for them."""

    def __init__(self, frames_per_second: int) -> None:
        self._frames_per_second = frames_per_second
        self._buffer = io.BytesIO()
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Append an RGB picture `(height, width, 3)`, even and of one size."""
        if self._container is None:
            self._begin(*frame.shape[:2])
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def _begin(self, height: int, width: int) -> None:
        self._container = av.open(self._buffer, "w", format="mp4", options={"fflags": "+bitexact"})
        # One thread and no encoder banner: equal frames then give equal bytes.
        stream: Any = self._container.add_stream("libx264", rate=self._frames_per_second)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": _QUALITY, "preset": "veryfast", "threads": "1", "x264-params": REPEATABLE_X264}
        self._stream = stream

    def finish(self) -> bytes:
        """The whole film; empty bytes where no picture went in."""
        if self._container is None:
            return b""
        self._container.mux(self._stream.encode())
        self._container.close()
        return self._buffer.getvalue()


class Film:
    """Takes one picture per control step; pass it as `film` to `run_episode`.

    Args:
        height, width: of each half of the picture [pixels], both even.
    """

    def __init__(self, eyes: "Eyes", frames_per_second: int, height: int = HEIGHT, width: int = WIDTH) -> None:
        self._eyes = eyes
        self._film = Mp4(frames_per_second)
        self._height, self._width = height, width

    def __call__(self, world: "World") -> None:
        """Take the picture of this control step."""
        seen = fit(self._eyes.image(world), self._height, self._width)
        self._film.add(np.concatenate([seen, world.third_person(self._height, self._width)], axis=1))

    def encode(self) -> bytes:
        """The film as MP4 (H.264), the same bytes for the same frames. Ends it."""
        return self._film.finish()


def fit(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scale an image `(h, w, 3)` by nearest neighbour into `(height, width, 3)`, shape kept, black around it."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = max(1, int(image.shape[0] * scale)), max(1, int(image.shape[1] * scale))
    rows = np.minimum((np.arange(inner[0]) / scale).astype(int), image.shape[0] - 1)
    columns = np.minimum((np.arange(inner[1]) / scale).astype(int), image.shape[1] - 1)
    result = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    result[top : top + inner[0], left : left + inner[1]] = image[rows][:, columns]
    return result


def encode_mp4(frames: Iterable[NDArray[np.uint8]], frames_per_second: int) -> bytes:
    """Encode RGB frames of one even size `(height, width, 3)`; empty bytes without frames."""
    film = Mp4(frames_per_second)
    for frame in frames:
        film.add(frame)
    return film.finish()


def last_picture(film: bytes) -> bytes:
    """The last picture of an MP4 as JPEG, which shows how the episode ended; empty bytes when it cannot be read."""
    try:
        with av.open(io.BytesIO(film), "r") as container:
            last = deque(container.decode(video=0), maxlen=1)
    except av.FFmpegError:
        return b""
    if not last:
        return b""
    buffer = io.BytesIO()
    last[0].to_image().save(buffer, "JPEG", quality=70, optimize=True)
    return buffer.getvalue()


def write_mp4(path: Path, content: bytes) -> None:
    """Write an encoded film, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
