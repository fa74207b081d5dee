"""`psi0 baseline train`: a baseline from the demonstrations of a task, in one process."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from psi0 import paths
from psi0.baselines.config import NETWORKS, BaselineConfig, Kind
from psi0.baselines.folder import Baseline, save_baseline
from psi0.baselines.learning import BaselineRecipe, action_error, closing_rows, trivial_errors
from psi0.baselines.nearest import Demonstrations, small_pictures
from psi0.baselines.player import player
from psi0.data import features
from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.files import publish_folder, read_json, sha256_json, write_json
from psi0.lineage import Checkout, Lineage, fingerprint_code, lineage
from psi0.model.policy_config import Layout
from psi0.params import Finetune, Params, check_task
from psi0.policy import Observation
from psi0.progress import progress
from psi0.robot.layout import ACTION_NAMES, STATE_NAMES
from psi0.robot.limits import LIMITS_FILE, load_limits
from psi0.settings import settings
from psi0.train.chunks import ChunkSamples
from psi0.train.precision import resolve_precision
from psi0.train.worker import alone

_CODE = ("baselines", "train", "model", "data", "robot")
_WHEN_ACTING = {"temporal_ensemble", "ensemble_decay"}
"""Settings that change how a network is run and not what it learns."""
_DECODED_AT_ONCE = 256


def make_baseline(
    params: Params,
    task: str,
    kind: Kind,
    target: Path,
    steps: int | None = None,
    after_step: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Make a baseline and leave its folder in `target`, in one step; a network resumes its own checkpoints.

    Args:
        steps: optimiser steps; None takes `finetune.steps`.
        after_step: called with the number of steps taken, after each.

    Returns:
        What `metrics.json` holds.

    Raises:
        Psi0Error: demonstrations or robot are missing, images of another size than `params.camera`, a loss that is
            not finite, or a disk that cannot be written.
    """
    training = with_steps(params.finetune, steps)
    folder = paths.prepared_demonstrations(check_task(task))
    if not folder.is_dir():
        raise Psi0Error(f"{folder} is missing; `dvc repro prepare_demonstrations@{task}` makes it")
    samples = ChunkSamples(f"demonstrations of {task}", LeRobotDataset(folder), training, params.control, prompt=None)
    samples.normalizer = samples.fit_bounds(training.minimum_range)
    config, layout = _config(params, task, kind, samples), _layout()
    depends = {
        "kind": kind,
        "baselines": params.baselines.model_dump(exclude=_WHEN_ACTING if kind in NETWORKS else set()),
        "control": params.control.model_dump(exclude={"execute"}),
        "finetune": training.model_dump(),
    }
    origin = lineage(depends, demonstrations=folder, limits=paths.ROBOT / LIMITS_FILE)
    if kind in NETWORKS:
        return _learn(config, training, samples, layout, origin, target, after_step)
    return _collect(config, training, samples, layout, origin, target)


def with_steps(training: Finetune, steps: int | None) -> Finetune:
    """Block `finetune` with another number of steps, and no longer a warm-up than that."""
    if steps is None:
        return training
    if steps < 1:
        raise Psi0Error(f"--steps {steps}: at least 1")
    return training.model_copy(update={"steps": steps, "warmup_steps": min(training.warmup_steps, steps)})


def _config(params: Params, task: str, kind: Kind, samples: ChunkSamples) -> BaselineConfig:
    height, width = samples.dataset.image_shape[:2]
    if (height, width) != (params.camera.height, params.camera.width):
        raise Psi0Error(
            f"{samples.dataset.folder} holds images of {width} x {height} pixels, params.camera says"
            f" {params.camera.width} x {params.camera.height}; `dvc repro prepare_demonstrations@{task}` makes them fit"
        )
    return BaselineConfig(
        kind=kind,
        task=task,
        policy_hz=params.control.policy_hz,
        horizon=params.control.chunk,
        camera_height=height,
        camera_width=width,
        stride=round(samples.dataset.fps / params.control.policy_hz),
        settings=params.baselines,
    )


def _layout() -> Layout:
    """The layout with the robot's limits in it, as exported graphs have it."""
    limits = load_limits(paths.ROBOT)
    return Layout(
        action_names=list(ACTION_NAMES),
        state_names=list(STATE_NAMES),
        action_low=limits.action_low.tolist(),
        action_high=limits.action_high.tolist(),
    )


def _learn(
    config: BaselineConfig,
    training: Finetune,
    samples: ChunkSamples,
    layout: Layout,
    origin: Lineage,
    target: Path,
    after_step: Callable[[int], None] | None,
) -> dict[str, float]:
    from psi0.train.checkpoint import forget_other_runs
    from psi0.train.loop import RESULT, Run, train
    from psi0.train.reports import FILE
    from psi0.train.watcher import Watcher

    name = f"baseline_{config.kind}@{config.task}"
    key = {"params": origin.params_sha256, "data": origin.data, "code": fingerprint_code(*_CODE)}
    runs = settings().home.absolute() / "checkpoints" / name
    fingerprint = sha256_json(key)[:24]
    forget_other_runs(runs, fingerprint)
    with alone() as team, Watcher(name, runs / fingerprint / FILE):
        settled = training.model_copy(update={"precision": resolve_precision(training, team), "ranks": 1})
        run = Run(
            folder=runs / fingerprint,
            stage=name,
            fingerprint=fingerprint,
            lineage=origin.model_copy(update={"precision": settled.precision}),
            checkout=Checkout.now(),
            log_every=settings().log_every,
        )
        train(BaselineRecipe(config, settled, samples, layout), run, team, after_step)
    with publish_folder(target) as folder:
        shutil.copytree(run.folder / RESULT, folder, dirs_exist_ok=True)
    return read_json(target / "metrics.json")


def _collect(
    config: BaselineConfig,
    training: Finetune,
    samples: ChunkSamples,
    layout: Layout,
    origin: Lineage,
    target: Path,
) -> dict[str, float]:
    """A nearest-demonstration baseline from the episodes that networks learn from."""
    assert samples.normalizer is not None
    rows = samples.training
    if config.kind == "nearest":
        rows = rows[samples.first_rows[rows] == rows]
    pictures = []
    with progress(f"{config.kind}: frames of {samples.name}", len(rows)) as advance:
        for start in range(0, len(rows), _DECODED_AT_ONCE):
            part = rows[start : start + _DECODED_AT_ONCE]
            pictures.append(small_pictures(samples.images(part, None), config.settings.match_rows))
            advance(len(part))
    demonstrations = Demonstrations(
        pictures=np.concatenate(pictures),
        states=samples.states(rows),
        rows=rows,
        last_rows=samples.last_rows[rows],
        actions=np.asarray(samples.dataset.column(features.ACTION), np.float32),
    )
    made = Baseline(config, demonstrations.to_tensors(), samples.normalizer, layout, origin)
    metrics = {
        "moments": float(len(rows)),
        "action_error": _held_out_error(made, samples, training.seed),
        **trivial_errors(samples, training.seed),
    }
    with publish_folder(target) as folder:
        save_baseline(folder, made)
        write_json(folder / "metrics.json", metrics)
    return metrics


def _held_out_error(made: Baseline, samples: ChunkSamples, seed: int) -> float:
    """`action_error` as networks report it: the policy sees its held-out episode from the beginning, on time."""
    policy, rows = player(made), closing_rows(samples, seed)
    states = samples.dataset.column(features.STATE)
    found = []
    for row in rows:
        first = samples.first_rows[row]
        policy.reset(0)
        for seen in (first, row):
            image = samples.images(np.array([seen]), None)[0]
            step = int(seen - first) // made.config.stride
            chunk = policy.act(Observation(image, states[seen], samples.dataset.instruction(seen), step, None, 0))
        found.append(made.normalizer.action.normalize(chunk))
    true = made.normalizer.action.normalize(samples.chunks(rows))
    return action_error(np.stack(found), true, samples.action_mask)
