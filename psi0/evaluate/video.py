"""Small videos of episodes: what the policy saw on the left, the robot from outside on the right."""

import io
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

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


class Film:
    """Collects one picture per control step and encodes them; pass it as `film` to `run_episode`."""

    def __init__(self, eyes: "Eyes", frames_per_second: int) -> None:
        self._eyes = eyes
        self._frames_per_second = frames_per_second
        self._frames: list[NDArray[np.uint8]] = []

    def __call__(self, world: "World") -> None:
        """Take the picture of this control step."""
        seen = fit(self._eyes.image(world), HEIGHT, WIDTH)
        self._frames.append(np.concatenate([seen, world.third_person(HEIGHT, WIDTH)], axis=1))

    def encode(self) -> bytes:
        """The film as MP4 (H.264), the same bytes for the same frames."""
        return encode_mp4(self._frames, self._frames_per_second)


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


def encode_mp4(frames: list[NDArray[np.uint8]], frames_per_second: int) -> bytes:
    """Encode RGB frames of one even size `(height, width, 3)`; empty bytes without frames."""
    if not frames:
        return b""
    buffer = io.BytesIO()
    options = {"fflags": "+bitexact"}
    with av.open(buffer, "w", format="mp4", options=options) as container:
        # One thread and no encoder banner: equal frames then give equal bytes.
        stream = container.add_stream("libx264", rate=frames_per_second)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": _QUALITY, "preset": "veryfast", "threads": "1", "x264-params": REPEATABLE_X264}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


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
