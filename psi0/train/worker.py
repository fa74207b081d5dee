"""What every training process runs: find its place, build the recipe from plain values, train.

Ray imports this module in fresh processes in any folder, so paths and settings come with the job.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, Field

from psi0.errors import Psi0Error
from psi0.files import write_json
from psi0.lineage import Checkout, Lineage
from psi0.params import Params
from psi0.train.loop import Run, train
from psi0.train.precision import resolve_precision
from psi0.train.recipe import Recipe
from psi0.train.team import Team

REFUSAL = "refusal.json"


class Job(BaseModel):
    """A training run as plain values, so that it can travel to other processes and machines.

    All paths are absolute and must be seen by every process (one machine, or a shared folder).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str = Field(description="pretrain, posttrain or finetune")
    task: str | None = Field(description="Task of a fine-tuning")
    params: dict[str, Any] = Field(description="The whole of params.yaml")
    inputs: dict[str, Path] = Field(description="Datasets and models by name")
    root: Path = Field(description="Checkout to work in")
    folder: Path = Field(description="Folder of checkpoints, reports and result")
    fingerprint: str = Field(description="Hash of parameters, data and code that the run depends on")
    lineage: Lineage = Field(description="What it is made from")
    checkout: Checkout = Field(description="The code that runs it")
    log_every: int = Field(description="Steps between reports")
    environment: dict[str, str] = Field(description="PSI0_* variables of the launching process")

    @property
    def name(self) -> str:
        """Stage, with its task if it has one."""
        return f"{self.stage}@{self.task}" if self.task else self.stage

    def run(self, precision: str) -> Run:
        """The run as the loop knows it, in this arithmetic."""
        origin = self.lineage.model_copy(update={"precision": precision})
        return Run(self.folder, self.name, self.fingerprint, origin, self.checkout, self.log_every)


def _train(job: Job, team: Team, after_step: Callable[[int], None] | None = None) -> None:
    """Settle what `auto` precision means, open datasets, make models, train. Collective."""
    everything = Params.model_validate(job.params)
    training = getattr(everything, job.stage)
    precision = resolve_precision(training, team)
    settled = everything.model_copy(update={job.stage: training.model_copy(update={"precision": precision})})
    train(_build_recipe(job, settled), job.run(precision), team, after_step)


def _build_recipe(job: Job, everything: Params) -> Recipe:
    """The stage's recipe: datasets opened, models made."""
    if job.stage == "pretrain":
        from psi0.train.next_tokens import Pretraining

        return Pretraining(everything, **job.inputs)
    from psi0.train.flow_chunks import Finetuning, Posttraining

    if job.stage == "posttrain" and everything.posttrain.cotrain:
        from psi0.train.cotraining import Cotraining

        return Cotraining(everything, **job.inputs)
    if job.stage == "posttrain":
        return Posttraining(everything, **job.inputs)
    assert job.task is not None
    return Finetuning(everything, job.task, **job.inputs)


def train_worker(content: dict[str, Any]) -> None:
    """Entry point of a Ray Train worker. A `Psi0Error` is left in `refusal.json`: trying again would not help."""
    job = Job.model_validate(content)
    os.environ.update(job.environment)
    if job.root.is_dir():
        os.chdir(job.root)
    team = Team(dist.get_rank(), dist.get_world_size(), _device())
    try:
        _train(job, team)
    except Psi0Error as error:
        if team.leads or not (job.folder / REFUSAL).exists():
            write_json(job.folder / REFUSAL, {"message": str(error)})


def _device() -> torch.device:
    """Where this rank computes. The launcher decides, with the backend: the machine may have fewer GPUs than ranks."""
    if dist.get_backend() != "nccl":
        return torch.device("cpu")
    from ray.train.torch import get_device

    return get_device()


@contextmanager
def alone() -> Iterator[Team]:
    """This process as a team of one rank on the CPU, without Ray."""
    os.environ.setdefault("LOCAL_RANK", "0")
    with tempfile.TemporaryDirectory() as meeting:
        if not dist.is_initialized():
            dist.init_process_group("gloo", init_method=f"file://{meeting}/store", rank=0, world_size=1)
        yield Team(0, 1, torch.device("cpu"))


def train_here(job: Job, after_step: Callable[[int], None] | None = None) -> None:
    """Train in this process, one rank, without Ray. Raises what the training raises, and what `after_step` raises."""
    with alone() as team:
        _train(job, team, after_step)
