"""Small prepared datasets whose actions can be read off the image: a bright square on grey, and where it lies."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from psi0.data import features
from psi0.data.features import feature_of
from psi0.data.lerobot_writer import LeRobotWriter
from psi0.data.statistics import ImageStatistics
from psi0.data.video import VideoFormat, encode
from psi0.files import write_json
from psi0.params import Params
from psi0.settings import settings
from psi0.train import stage

WIDTH, HEIGHT, SQUARE = 64, 48, 10
UNUSED = [6, 7, 8, 30, 31, 32]
UPPER_BODY = 28


def tiny_params(**changes: dict[str, object]) -> Params:
    """Parameters small enough for a test; each keyword replaces fields of one block."""
    quick = {
        "steps": 60,
        "batch": 16,
        "learning_rate": 3e-3,
        "warmup_steps": 5,
        "validation_every": 30,
        "checkpoint_every": 20,
        "image_shift": 1,
        "threads": 1,
        "ranks": 1,
    }
    blocks: dict[str, dict[str, object]] = {
        "control": {"policy_hz": 10, "chunk": 8, "execute": 4},
        "camera": {"width": WIDTH, "height": HEIGHT},
        "tokenizer": {"vocabulary": 64, "scale": 10, "samples": 500},
        "system2": {"hidden_size": 64, "text_layers": 1, "vision_layers": 1, "heads": 2, "key_value_heads": 1},
        "system1": {"hidden_size": 64, "blocks": 1, "heads": 2},
        "pretrain": {**quick, "humanoid_everyday_steps": 20},
        "posttrain": {**quick, "chunk": 8},
        "finetune": dict(quick),
    }
    for name, fields in changes.items():
        blocks.setdefault(name, {}).update(fields)
    return Params.model_validate(blocks)


@contextmanager
def inside(root: Path) -> Iterator[Path]:
    """A folder as current folder, with settings of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        settings.cache_clear()
        try:
            yield root
        finally:
            settings.cache_clear()


@contextmanager
def private_copy(prepared: Path, folder: Path) -> Iterator[Path]:
    """A copy of a workspace, without checkpoints, as current folder."""
    root = folder / "workspace"
    shutil.copytree(prepared, root, ignore=shutil.ignore_patterns("checkpoints"))
    with inside(root):
        yield root


@contextmanager
def quick_workspace(root: Path) -> Iterator[Path]:
    """The three datasets, a tokenizer, and a System-2 and System-1 of a few steps, as current folder."""
    write_all(root, episodes=3)
    with inside(root):
        few = {"steps": 2, "warmup_steps": 1, "humanoid_everyday_steps": 1, "precision": "float32"}
        params = tiny_params(pretrain=few, posttrain=quick_chunks())
        stage.fit_tokenizer(params)
        stage.pretrain(params, in_process=True)
        stage.posttrain(params, in_process=True)
        yield root


def quick_chunks(**fields: object) -> dict[str, object]:
    """Stage 2 or 3 in eight steps, nothing augmented."""
    few = {"steps": 8, "validation_every": 4, "checkpoint_every": 4, "precision": "float32"}
    return {**few, "image_shift": 0, "color_jitter": 0.0, **fields}


def _pictures(source: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of a square that wanders, and its center in [-1, 1] `(frames, 2)`."""
    walk = np.cumsum(source.normal(0, 0.08, (frames, 2)), axis=0) + source.uniform(-1, 1, 2)
    center = np.sin(walk * 1.5) * 0.7
    images = np.full((frames, HEIGHT, WIDTH, 3), 90, np.uint8)
    for image, (u, v) in zip(images, center, strict=True):
        x, y = round((u + 1) / 2 * WIDTH), round((v + 1) / 2 * HEIGHT)
        image[max(0, y - SQUARE // 2) : y + SQUARE // 2, max(0, x - SQUARE // 2) : x + SQUARE // 2] = (250, 60, 40)
    return images, center.astype(np.float32)


def write_dataset(folder: Path, kind: str, episodes: int = 10, frames: int = 30, rate: int = 30, seed: int = 0) -> None:
    """Write one of `egodex`, `humanoid_everyday`, `demonstrations`, as the prepare stages would."""
    source = np.random.default_rng(seed)
    motions = np.random.default_rng(100).normal(0, 0.02, (4, 48)).astype(np.float32)
    motions[:, UNUSED] = 0
    to_joints = np.random.default_rng(101).normal(0, 0.4, (3, 36)).astype(np.float32)
    form = VideoFormat(WIDTH, HEIGHT, Fraction(rate))
    writer: LeRobotWriter | None = None
    pixels = ImageStatistics()
    for _ in range(episodes):
        images, center = _pictures(source, frames)
        pose = np.concatenate([center, np.ones((frames, 1), np.float32)], axis=1)
        quadrant = (center[:, 0] > 0) * 2 + (center[:, 1] > 0)
        task_space = motions[quadrant] + source.normal(0, 0.0005, (frames, 48)) * (motions[0] != 0)
        actions = (pose @ to_joints).astype(np.float32)
        if kind == "humanoid_everyday":
            actions[:, UPPER_BODY:] = 0
        state = np.zeros((frames, 32), np.float32)
        state[:, 0] = np.linspace(0, 1, frames)
        valid = np.ones((frames, 1), np.float32)
        valid[-3:] = 0
        points = np.concatenate([np.tile([0.5, 0.0, 0.8], (frames, 1)), center], axis=1).astype(np.float32)
        columns = {
            "egodex": {features.ACTION: task_space, features.ACTION_VALID: valid},
            "humanoid_everyday": {
                features.STATE: state,
                features.ACTION: actions,
                features.TASK_SPACE: task_space,
                features.TASK_SPACE_VALID: valid,
            },
            "demonstrations": {features.STATE: state, features.ACTION: actions, features.KEY_POINTS: points},
        }[kind]
        columns = {name: values.astype(np.float32) for name, values in columns.items()}
        if writer is None:
            folder.mkdir(parents=True)
            described = {name: feature_of(name, values.shape[1]) for name, values in columns.items()}
            writer = LeRobotWriter(folder, described, features.CAMERA, form, "test")
        pixels.add(images[0])
        writer.add(columns, encode(images, form), f"{kind} number {seed}", pixels.result())
    assert writer is not None
    writer.finish(pixels.result())
    mask = [1.0] * 36 if kind == "demonstrations" else [1.0] * UPPER_BODY + [0.0] * 8
    write_json(folder / "meta/psi0.json", {"schema_version": 1, "action_mask": mask, "state_mask": [1.0] * 32})


def write_all(root: Path, **sizes: int) -> None:
    """All three datasets where the stages look for them, relative to `root`."""
    write_dataset(root / "data/prepared/egodex", "egodex", **sizes)
    write_dataset(root / "data/prepared/humanoid_everyday", "humanoid_everyday", seed=1, **sizes)
    write_dataset(root / "data/prepared/demonstrations/pick_can", "demonstrations", rate=10, seed=2, **sizes)
