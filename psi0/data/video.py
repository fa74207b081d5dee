"""Video in and out with PyAV: any codec in, H.264 or MPEG-4 with a key frame every other frame out.

Encoding is single-threaded and bit-exact, so equal frames give equal bytes. An episode is encoded on its own and
then appended to a file that holds many, so that an episode that breaks half way leaves no trace in it.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.video.reformatter import VideoReformatter
from PIL import Image as PillowImage

from psi0.data.episode import BadEpisode, Image, in_short
from psi0.errors import Psi0Error

Codec = Literal["h264", "mpeg4"]
KEY_FRAME_EVERY = 2
"""Distance of key frames, as LeRobot writes them: any frame is one decode away."""

REPEATABLE_X264 = "mbtree=0:rc-lookahead=0:sync-lookahead=0:cpu-independent=1"
"""x264's look-ahead reads memory it never wrote: with it, equal frames give different bytes once in a while."""

_ENCODERS: dict[Codec, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv444p", {"preset": "veryfast", "forced-idr": "1", "x264-params": REPEATABLE_X264}),
    "mpeg4": ("mpeg4", "yuv420p", {"qmin": "2", "qmax": "2"}),
}
"""Encoder, pixel format, options. In pictures this small an object is a few pixels wide: halving the resolution of
colour (yuv420p) costs more than all other losses together (34 dB at best), so h264 keeps it."""
_BIT_EXACT = {"fflags": "+bitexact"}


@dataclass(frozen=True)
class VideoFormat:
    """How a prepared video is encoded: size [pixels], frames per second, codec, quality (CRF, for h264)."""

    width: int
    height: int
    frame_rate: Fraction
    codec: Codec = "h264"
    quality: int = 12

    def __post_init__(self) -> None:
        if self.pixel_format == "yuv420p" and (self.width % 2 or self.height % 2):
            raise Psi0Error(
                f"camera.width and camera.height must be even for {self.codec} video; found {self.width}x{self.height}"
            )

    @property
    def pixel_format(self) -> str:
        """How colours are stored."""
        return _ENCODERS[self.codec][1]


def exact_rate(frames_per_second: float) -> Fraction:
    """The frame rate as a fraction with a small denominator (29.97 becomes 2997/100)."""
    return Fraction(frames_per_second).limit_denominator(1001)


def decode_images(source: Path | io.BytesIO, width: int, height: int) -> Iterator[Image]:
    """Yield every frame as RGB `(height, width, 3)`, resized by area when shrinking, else by Lanczos.

    Raises:
        BadEpisode: the file is no video, is truncated, or breaks in the middle.
    """
    name = source.name if isinstance(source, Path) else "video"
    try:
        with av.open(str(source) if isinstance(source, Path) else source, "r") as container:
            if not container.streams.video:
                raise BadEpisode(f"{name} holds no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            converter = VideoReformatter()
            for frame in container.decode(stream):
                yield resized(frame, width, height, converter)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadEpisode(f"{name} cannot be decoded ({in_short(error)}); it may be truncated") from error


def resized(frame: av.VideoFrame, width: int, height: int, converter: VideoReformatter) -> Image:
    """A decoded frame as RGB `(height, width, 3)`. One converter per stream: making one costs as much as a frame."""
    shrinks = frame.width >= width and frame.height >= height
    method = None if (frame.width, frame.height) == (width, height) else "AREA" if shrinks else "LANCZOS"
    picture = converter.reformat(frame, width, height, format="rgb24", interpolation=method)
    return np.asarray(picture.to_ndarray(), np.uint8)


def read_image(path: Path, width: int, height: int) -> Image:
    """Read one JPEG or PNG as RGB `(height, width, 3)`, resized as `decode_images` does.

    Raises:
        BadEpisode: the file is missing or is not a whole image.
    """
    try:
        with PillowImage.open(path) as file:
            return fit_image(file, width, height)
    except FileNotFoundError:
        raise BadEpisode(f"image {path.name} is missing") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise BadEpisode(f"image {path.name} cannot be decoded ({in_short(error)})") from error


def fit_image(image: PillowImage.Image, width: int, height: int) -> Image:
    """An opened image as RGB `(height, width, 3)`."""
    if image.size == (width, height):
        return np.asarray(image.convert("RGB"))
    shrinks = image.width >= width and image.height >= height
    method = PillowImage.Resampling.BOX if shrinks else PillowImage.Resampling.LANCZOS
    return np.asarray(image.convert("RGB").resize((width, height), method))


def encode(images: Iterable[Image], form: VideoFormat) -> bytes:
    """Encode RGB images `(height, width, 3)` as an MP4 whose first frame is a key frame at time 0."""
    encoder, pixels, options = _ENCODERS[form.codec]
    if form.codec == "h264":
        options = options | {"crf": str(form.quality)}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=_BIT_EXACT) as container:
        stream: Any = container.add_stream(encoder, rate=form.frame_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = form.width, form.height, pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = KEY_FRAME_EVERY
        stream.codec_context.max_b_frames = 0
        stream.codec_context.flags |= CodecFlags.bitexact
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


class VideoFile:
    """An MP4 file that grows by whole clips of one format, each starting where the last ended."""

    def __init__(self, path: Path, form: VideoFormat) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4", options=_BIT_EXACT)
        self._stream: Any = None
        self._rate = form.frame_rate
        self.frames = 0
        self.bytes = 0

    def append(self, clip: bytes) -> tuple[float, float]:
        """Append a clip made by `encode`. Returns where it begins and ends in the file [s]."""
        first = self.frames
        with av.open(io.BytesIO(clip), "r") as source:
            stream: Any = source.streams.video[0]
            if self._stream is None:
                self._stream = self._container.add_stream_from_template(stream)
            ticks = Fraction(1) / self._rate / stream.time_base
            for packet in source.demux(stream):
                if packet.dts is None:
                    continue
                packet.pts = packet.dts = int(self.frames * ticks)
                packet.stream = self._stream
                self._container.mux(packet)
                self.frames += 1
        self.bytes += len(clip)
        return float(first / self._rate), float(self.frames / self._rate)

    def close(self) -> None:
        """Finish the file."""
        self._container.close()
