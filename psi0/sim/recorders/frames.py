"""Episodes as `data.json` (a list of frames) with JPEG pictures: the layout of Unitree's and Psi-Zero's recorders."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_JPEG_QUALITY = 92
_DECIMALS = 6


def plain(value: Any) -> Any:
    """Arrays and numbers as plain lists and floats, rounded to a millionth, for JSON."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.floating):
        return np.round(np.asarray(value, np.float64), _DECIMALS).tolist()
    return value


class FrameList:
    """Collects the frames of one episode; `save` writes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frames: list[dict[str, Any]] = []
        (folder / "color").mkdir()

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: dict[str, Any], image: NDArray[np.uint8]) -> None:
        """Add a frame and its picture `(height, width, 3)`; the key `image` names the picture's file."""
        name = f"color/frame_{len(self._frames):06d}.jpg"
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        (self._folder / name).write_bytes(encoded.getvalue())
        self._frames.append({**plain(frame), "image": name, "depth": None})

    def save(self) -> None:
        """Write `data.json`."""
        (self._folder / "data.json").write_text(json.dumps(self._frames, separators=(",", ":"), allow_nan=False))
