"""Stages that make raw episodes: recorded here, or, for any other source, an index of data that lies elsewhere."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from psi0 import paths
from psi0.files import publish_folder, write_json
from psi0.params import RECORDER, Params, RawDataset
from psi0.robot.constants import NOMINAL_HEIGHT
from psi0.sim.recorders.egodex import EgoDexRecorder
from psi0.sim.recorders.humanoid_everyday import HumanoidEverydayRecorder
from psi0.sim.recorders.parallel import Recorded, record_episodes
from psi0.sim.recorders.teleoperation import TeleoperationRecorder
from psi0.sim.tasks import make_task


def _indexed(dataset: RawDataset, target: Path, human: bool = False) -> bool:
    """Index real data when that is what the parameters name; False when episodes are to be recorded."""
    if dataset.source == RECORDER:
        return False
    from psi0.data.episode import Options
    from psi0.data.formats import HUMAN_FORMATS, ROBOT_FORMATS
    from psi0.data.index import index_raw

    options = Options(dataset.source_hz, dataset.camera)
    accepted = HUMAN_FORMATS if human else ROBOT_FORMATS
    index_raw(dataset.source, dataset.format, dataset.episodes, target, accepted, options)
    return True


def _write_metadata(folder: Path, recorder: str, rate: int, kept: list[Recorded], tried: int, **more: Any) -> None:
    frames = sum(episode.summary["frames"] for episode in kept)
    write_json(
        folder / "metadata.json",
        {
            "schema_version": 1,
            "synthetic": True,
            "recorder": recorder,
            "frame_rate": rate,
            "tried": tried,
            "kept": len(kept),
            "seeds": [episode.seed for episode in kept],
            **more,
        },
    )
    write_json(
        folder / "metrics.json",
        {"episodes": len(kept), "tried": tried, "frames": frames, "seconds": round(frames / rate, 3)},
    )


def make_egodex(params: Params) -> None:
    """Write `data/raw/egodex` in EgoDex's layout. Raises `Psi0Error` when the source is bad or nothing can draw."""
    dataset, target = params.egodex, paths.RAW_EGODEX
    if _indexed(dataset, target, human=True):
        return
    with publish_folder(target) as folder:
        pending = folder / "pending"
        kept, tried = record_episodes(
            EgoDexRecorder,
            (dataset.recorder_hz, params.camera),
            label="EgoDex",
            wanted=dataset.episodes,
            first_seed=dataset.seed,
            workers=dataset.workers,
            folder=pending,
        )
        count: Counter[str] = Counter()
        for episode in kept:
            task = episode.summary["task"]
            for ending in ("hdf5", "mp4"):
                _move(episode.folder / f"episode.{ending}", folder / "test" / task / f"{count[task]}.{ending}")
            count[task] += 1
        shutil.rmtree(pending)
        instructions = {episode.summary["task"]: episode.summary["instruction"] for episode in kept}
        _write_metadata(folder, "egodex", dataset.recorder_hz, kept, tried, instruction=instructions)


def make_humanoid_everyday(params: Params) -> None:
    """Write `data/raw/humanoid_everyday` in the layout of Humanoid Everyday. Raises as `make_demonstrations` does."""
    dataset, target = params.humanoid_everyday, paths.RAW_HUMANOID_EVERYDAY
    if _indexed(dataset, target):
        return
    with publish_folder(target) as folder:
        pending = folder / "pending"
        kept, tried = record_episodes(
            HumanoidEverydayRecorder,
            (dataset.recorder_hz, params.camera),
            label="Humanoid Everyday",
            wanted=dataset.episodes,
            first_seed=dataset.seed,
            workers=dataset.workers,
            folder=pending,
        )
        descriptions: dict[str, str] = {}
        count: Counter[str] = Counter()
        for episode in kept:
            task = f"{episode.summary['category']}/{episode.summary['task']}"
            _move(episode.folder, folder / task / f"episode_{count[task]}")
            count[task] += 1
            descriptions[episode.summary["task"]] = episode.summary["instruction"]
        shutil.rmtree(pending)
        write_json(folder / "task_description_dict.json", descriptions)
        _write_metadata(
            folder, "humanoid_everyday", dataset.recorder_hz, kept, tried, instruction=descriptions, poses_in="pelvis"
        )


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def make_demonstrations(params: Params, task: str) -> None:
    """Write `data/raw/demonstrations/<task>` in the layout of G1 teleoperation.

    Raises:
        Psi0Error: too many demonstrations failed, or the source is bad.
    """
    dataset, target = params.demonstrations, paths.raw_demonstrations(task)
    if _indexed(dataset, target):
        return
    with publish_folder(target) as folder:
        pending = folder / "pending"
        kept, tried = record_episodes(
            TeleoperationRecorder,
            (task, params.control, params.camera, params.objects(task), dataset.noise, dataset.recoveries),
            label=f"demonstrations of {task}",
            wanted=dataset.episodes,
            first_seed=dataset.seed,
            workers=dataset.workers,
            folder=pending,
        )
        for index, episode in enumerate(kept):
            _move(episode.folder, folder / f"episode_{index}")
        shutil.rmtree(pending)
        _write_metadata(
            folder,
            "teleoperation",
            dataset.recorder_hz,
            kept,
            tried,
            standing_height=NOMINAL_HEIGHT,
            instruction={task: make_task(task).instructions[0]},
            instructions={f"episode_{index}": episode.summary["instruction"] for index, episode in enumerate(kept)},
        )
