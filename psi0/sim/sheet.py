"""The contact sheet: every task from start to success, and how the levels change what its head camera sees."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from psi0.params import Control
from psi0.sim.tasks import TASKS
from psi0.sim.variation import LEVELS, Level
from psi0.sim.watch import Image8, beside, head_camera, strip
from psi0.sim.world import make_world

_MOMENTS, _WIDTH = 6, 200
_SHOWN_LEVEL: Level = "L1"
_CAPTION, _COLORS = 18, 256


def sheet(seed: int, control: Control, target: Path) -> None:
    """Write one picture: a strip per task at level L1, then the first head-camera image of each at every level.

    Raises:
        Psi0Error: the seed is invalid for a task, its demonstrator fails on it, or nothing can draw.
    """
    rows = []
    for name in TASKS:
        world = make_world(name, control, head_camera(_WIDTH), _SHOWN_LEVEL)
        rows.append(_titled(f"{name}, {_SHOWN_LEVEL}, seed {seed}", strip(world, seed, _MOMENTS, _WIDTH)))
        world.close()
    rows.append(_levels(seed, control, rows[0].shape[1]))
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = Image.fromarray(np.concatenate(rows))
    whole.quantize(_COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(target, optimize=True)


def _levels(seed: int, control: Control, width: int) -> Image8:
    """One row per level, one column per task."""
    size = width // len(TASKS) - _CAPTION
    rows = []
    for level in LEVELS:
        pictures = []
        for name in TASKS:
            world = make_world(name, control, head_camera(size), level)
            world.reset(seed)
            pictures.append(np.asarray(Image.fromarray(world.head_camera()).resize((size, size * 3 // 4))))
            world.close()
        row = beside(pictures)
        padding = np.full((row.shape[0], width - row.shape[1], 3), 255, np.uint8)
        rows.append(_titled(f"{level}: {', '.join(TASKS)}, seed {seed}", np.concatenate([row, padding], axis=1)))
    return np.concatenate(rows)


def _titled(title: str, picture: Image8) -> Image8:
    caption = Image.new("RGB", (picture.shape[1], _CAPTION), "white")
    ImageDraw.Draw(caption).text((3, 3), title, fill="black")
    return np.concatenate([np.asarray(caption), picture])
