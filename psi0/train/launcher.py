"""One launcher for all stages: Ray Train V2 places the ranks, restarts them when one dies, and DeepSpeed joins them.

With `PSI0_RAY_ADDRESS` the ranks run on that cluster (`RAY_AUTH_MODE=token` and `RAY_AUTH_TOKEN_PATH` come from the
environment); without it an embedded Ray is started on loopback for the time of the run. Checkpoints are our own, in a
folder that all ranks see: Ray can lose one that was reported just before a crash.
"""

import os
import shutil
import sys
from typing import Any

from psi0.cluster import connect_ray
from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.params import Training
from psi0.settings import settings
from psi0.train.reports import FILE
from psi0.train.watcher import Watcher
from psi0.train.worker import REFUSAL, Job, train_here, train_worker

RESTARTS = 3
"""Times that a lost worker is replaced before the run is given up."""
_WORKER_ENVIRONMENT = {
    # Threads that wait give their core away. Spinning, the default, costs three to four times the time as soon as
    # anything else runs on the machine.
    "OMP_WAIT_POLICY": "PASSIVE",
}
_RAY_TRAIN_ENVIRONMENT = {
    # The controller looks after the workers this often [s]; the default of 2 makes every start and end slower.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def launch(job: Job, training: Training, *, in_process: bool = False) -> None:
    """Train to the end; the result lies in the job's folder.

    Args:
        job: what to train.
        training: ranks and threads.
        in_process: one rank in this process, without Ray: quick, for small runs and tests.

    Raises:
        Psi0Error: what the training refused, no cluster at the address, too few CPUs or GPUs, or workers that died
            again and again.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / REFUSAL).unlink(missing_ok=True)
    with Watcher(job.name, job.folder / FILE):
        if in_process:
            train_here(job)
        else:
            _fit(job, training)
    if (job.folder / REFUSAL).exists():
        raise Psi0Error(read_json(job.folder / REFUSAL)["message"])


def _fit(job: Job, training: Training) -> None:
    for name, value in _RAY_TRAIN_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    ray = connect_ray(training.ranks * training.threads, _WORKER_ENVIRONMENT)
    _check_size(ray, training)
    gpus = enough_gpus(ray.cluster_resources().get("GPU", 0), training.ranks, job.stage)
    # Ray's own record of the run; left by a killed launcher, it would be taken for one to restore.
    scratch = job.folder / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=job.model_dump(mode="json"),
            scaling_config=ScalingConfig(
                num_workers=training.ranks,
                use_gpu=gpus,
                resources_per_worker={"GPU": 1, "CPU": 1} if gpus else {"CPU": training.threads},
            ),
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            run_config=RunConfig(
                name=job.stage,
                storage_path=str(scratch),
                failure_config=FailureConfig(max_failures=RESTARTS),
            ),
        )
        _leave_out_helpers(trainer)
        trainer.fit()
    except TrainingFailedError as error:
        raise Psi0Error(
            f"{job.name}: training failed after {RESTARTS} restarts; checkpoints are in {job.folder}."
            f" Run it again to resume. {_reason(error)}"
        ) from error
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def enough_gpus(there: float, ranks: int, stage: str) -> bool:
    """Whether every rank gets a GPU of its own; without that all compute on CPUs, which is said if there are GPUs."""
    if 0 < there < ranks:
        print(
            f"{stage}: {there:g} GPUs for {ranks} ranks, so the CPUs compute; set {stage}.ranks to {there:g} to use"
            " the GPUs",
            file=sys.stderr,
        )
    return there >= ranks


def _leave_out_helpers(trainer: Any) -> None:
    """Start no process that this run has no use for: each imports all of Ray first, half of a fit's overhead.

    Ray Data is not used here. What cleans up after a lost controller matters on a cluster alone: an embedded Ray ends
    with the launcher. Should Ray rename them, they are started again and nothing else changes.
    """
    unused = {"DatasetsCallback"} | ({"PlacementGroupCleanerCallback"} if settings().ray_address is None else set())
    everything = trainer._create_default_callbacks
    trainer._create_default_callbacks = lambda: [part for part in everything() if type(part).__name__ not in unused]


def _check_size(ray: Any, training: Training) -> None:
    """Refuse a cluster that is too small; the embedded Ray has what it was given."""
    there, cpus = ray.cluster_resources(), training.ranks * training.threads
    if there.get("GPU", 0) < training.ranks and there.get("CPU", 0) < cpus:
        ray.shutdown()
        raise Psi0Error(
            f"the Ray cluster at {settings().ray_address} has {there.get('CPU', 0):g} CPUs, {training.ranks} ranks of"
            f" {training.threads} threads need {cpus}; lower ranks or threads, or add machines"
        )


def _reason(error: Exception) -> str:
    failures = getattr(error, "worker_failures", {})
    lines = [str(failure).strip().splitlines()[-1] for failure in failures.values() if str(failure).strip()]
    return f"Reason: {lines[0]}" if lines else f"Reason: {str(error).strip().splitlines()[-1]}"
