"""The training stages of the DAG: fit the tokenizer, pre-train System-2, post-train System-1, fine-tune a policy."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.files import publish_folder, sha256_json, write_json
from psi0.lineage import Checkout, fingerprint_code, lineage, write_lineage
from psi0.model.manifest import check_manifest
from psi0.params import FROM_SIZES, Params, Training
from psi0.settings import settings

if TYPE_CHECKING:
    from psi0.train.worker import Job

_CODE = ("train", "model", "data", "robot")
_WEIGHTS = ("system2", "system1")
"""Inputs that hold weights under a manifest."""


def fit_tokenizer(params: Params) -> None:
    """Fit FAST on prepared EgoDex, and set the text tokenizer beside it: `models/tokenizer`."""
    from psi0.data.dataset import LeRobotDataset
    from psi0.model.fast import FastTokenizer
    from psi0.model.normalizer import Scale
    from psi0.model.text import BUILT_IN, text_file
    from psi0.model.tokenizer_folder import Tokenizers
    from psi0.train.next_tokens import task_space

    own = params.tokenizer
    values, valid = task_space(LeRobotDataset(paths.PREPARED_EGODEX))
    known = values[valid].astype(np.float64)
    if not len(known):
        raise Psi0Error(f"{paths.PREPARED_EGODEX} holds no row with a stage-1 target; run prepare_egodex again")
    low, high = np.quantile(known, [0.01, 0.99], axis=0)
    scale = Scale.fit(low, high, method="quantile")
    chosen = np.random.default_rng(own.seed).permutation(len(known))[: own.samples]
    normal = scale.normalize(known[np.sort(chosen)])[:, None]
    fast = FastTokenizer.fit(normal, vocabulary=own.vocabulary, scale=own.scale)
    tokens = fast.encode(normal)
    error = np.abs(fast.decode(tokens) - normal).mean()
    with publish_folder(paths.TOKENIZER) as folder:
        Tokenizers.create(fast, own.text, scale).save(folder)
        metrics = {
            "tokens_per_action": float(np.mean([len(ids) for ids in tokens])),
            "reconstruction_error": float(error),
            "tokens_in_use": fast.size,
            "fitted_on": len(chosen),
        }
        write_json(folder / "metrics.json", metrics)
        outside = {} if own.text == BUILT_IN else {"text": text_file(own.text)}
        write_lineage(folder, lineage(own, egodex=paths.PREPARED_EGODEX, **outside))


def pretrain(params: Params, *, in_process: bool = False) -> None:
    """Stage 1: `models/system2`. Raises `Psi0Error` as `psi0.train.launcher.launch` does."""
    _run(pretrain_job(params), params.pretrain, paths.SYSTEM2, in_process)


def posttrain(params: Params, *, in_process: bool = False) -> None:
    """Stage 2: `models/system1`. Raises `Psi0Error` as `psi0.train.launcher.launch` does."""
    _run(posttrain_job(params), params.posttrain, paths.SYSTEM1, in_process)


def finetune(params: Params, task: str, *, in_process: bool = False) -> None:
    """Stage 3: `models/policy/<task>`. Raises `Psi0Error` as `psi0.train.launcher.launch` does."""
    _run(finetune_job(params, task), params.finetune, paths.policy(task), in_process)


def pretrain_job(params: Params) -> "Job":
    """What stage 1 trains on and depends on."""
    inputs = {
        "egodex": paths.PREPARED_EGODEX,
        "humanoid_everyday": paths.PREPARED_HUMANOID_EVERYDAY,
        "tokenizer": paths.TOKENIZER,
    }
    depends = {"system2": params.system2.model_dump(exclude={"download"}), "camera": params.camera.model_dump()}
    source = Path(params.system2.source)
    outside = {"system2_source": source} if params.system2.source != FROM_SIZES and source.exists() else {}
    return _job("pretrain", None, params, inputs, depends, outside)


def posttrain_job(params: Params) -> "Job":
    """What stage 2 trains on and depends on."""
    inputs = {
        "system2": paths.SYSTEM2,
        "humanoid_everyday": paths.PREPARED_HUMANOID_EVERYDAY,
        "tokenizer": paths.TOKENIZER,
    }
    if params.posttrain.cotrain:
        inputs["egodex"] = paths.PREPARED_EGODEX
    # How it is sampled changes what is measured at the end, and makes no other training.
    depends = {
        "system1": params.system1.model_dump(exclude={"euler_steps", "guidance"}),
        "control": params.control.model_dump(include={"policy_hz"}),
    }
    return _job("posttrain", None, params, inputs, depends)


def finetune_job(params: Params, task: str) -> "Job":
    """What stage 3 trains on and depends on: of the two System-2, the one that learned last."""
    inputs = {
        "system2": paths.COTRAINED_SYSTEM2 if paths.COTRAINED_SYSTEM2.is_dir() else paths.SYSTEM2,
        "system1": paths.SYSTEM1,
        "demonstrations": paths.prepared_demonstrations(task),
        "tokenizer": paths.TOKENIZER,
    }
    depends = {
        "system2": params.system2.model_dump(include={"key_points"}),
        "control": params.control.model_dump(exclude={"execute"}),
    }
    return _job("finetune", task, params, inputs, depends)


def _job(
    stage: str,
    task: str | None,
    params: Params,
    inputs: dict[str, Path],
    depends: dict[str, Any],
    outside: Mapping[str, Path] = MappingProxyType({}),
) -> "Job":
    """A run keyed by what it depends on: parameters, outputs of other stages, what lies `outside` the DAG, code."""
    for name, folder in inputs.items():
        if not folder.is_dir():
            raise Psi0Error(f"{stage}: its input {name} ({folder}) is missing; run the stage that makes it")
        if name in _WEIGHTS:
            check_manifest(folder)
    from psi0.train.worker import Job

    origin = lineage(depends | {stage: getattr(params, stage).model_dump()}, **inputs, **outside)
    key = {"params": origin.params_sha256, "data": origin.data, "code": fingerprint_code(*_CODE)}
    fingerprint = sha256_json(key)[:24]
    runs = settings().home.absolute() / "checkpoints" / (f"{stage}@{task}" if task else stage)
    return Job(
        stage=stage,
        task=task,
        params=params.model_dump(mode="json"),
        inputs={name: folder.absolute() for name, folder in inputs.items()},
        root=Path.cwd(),
        folder=runs / fingerprint,
        fingerprint=fingerprint,
        lineage=origin,
        checkout=Checkout.now(),
        log_every=settings().log_every,
        environment={name: value for name, value in os.environ.items() if name.startswith("PSI0_")},
    )


def _run(job: "Job", training: Training, target: Path, in_process: bool) -> None:
    """Launch, and publish the result as the stage's output."""
    from psi0.train.checkpoint import forget_other_runs
    from psi0.train.launcher import launch
    from psi0.train.loop import RESULT

    forget_other_runs(job.folder.parent, job.folder.name)
    launch(job, training, in_process=in_process)
    with publish_folder(target) as folder:
        shutil.copytree(job.folder / RESULT, folder, dirs_exist_ok=True)
