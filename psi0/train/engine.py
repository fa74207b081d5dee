"""One module and its optimiser under DeepSpeed: the same calls for every ZeRO stage, on CPUs (gloo) and GPUs (nccl)."""

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from psi0.errors import Psi0Error
from psi0.params import ChunkTraining, Training
from psi0.train.average import Average
from psi0.train.optimizer import make_optimizer, rate_factor
from psi0.train.precision import BFLOAT16
from psi0.train.team import Team

Batch = dict[str, Tensor]


def _deepspeed(device: torch.device) -> Any:
    """DeepSpeed, kept from starting a C++ compiler: on CPUs it would build a shared-memory op for a minute or more."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    deepspeed = importlib.import_module("deepspeed")
    # `deepspeed.comm` rebinds its attribute `torch`, so the module is looked up by its full name.
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step found, the same on all ranks but for `per_sample`.

    Attributes:
        values: mean over the global batch of each scalar that the objective returns, `loss` among them.
        gradient_norm: before clipping.
        learning_rate: of the first group.
        per_sample: `(samples of this rank,)` loss per sample.
    """

    values: dict[str, float]
    gradient_norm: float
    learning_rate: float
    per_sample: Tensor


class Engine:
    """Trains an objective: a module whose `forward(batch, generator)` returns `loss`, `per_sample` and scalars."""

    def __init__(self, objective: nn.Module, groups: list[dict[str, Any]], training: Training, team: Team) -> None:
        self.training, self.team = training, team
        self._peaks = [group["peak"] for group in groups]
        micro = training.batch // (team.ranks * training.accumulation)
        # DeepSpeed's default bucket of 5e8 numbers is allocated at every step: 2 GB for a model of 2 million. Even,
        # because it is cut in aligned parts.
        trained = sum(parameter.numel() for group in groups for parameter in group["params"])
        bucket = min(500_000_000, 2 * trained)
        # ZeRO stage 0 clips nothing that it reports the norm of; the engine clips there itself.
        config: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": micro,
            "gradient_accumulation_steps": training.accumulation,
            "gradient_clipping": training.clip_norm if training.zero_stage else 0.0,
            "zero_optimization": {
                "stage": training.zero_stage,
                "reduce_bucket_size": bucket,
                "allgather_bucket_size": bucket,
            },
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 10**9,
        }
        deepspeed = _deepspeed(team.device)
        deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False)
        optimizer = make_optimizer(groups, training)
        self._deepspeed: Any
        self._deepspeed, *_ = deepspeed.initialize(
            model=objective.to(team.device), optimizer=optimizer, config=config, dist_init_required=False
        )
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        decay = training.ema if isinstance(training, ChunkTraining) else 0.0
        self.average = Average(self.objective, decay) if decay else None
        """Moving average of the weights, where `ema` asks for one."""

    def step(self, micro_batches: Sequence[Batch], step: int, generator: torch.Generator) -> StepResult:
        """One optimiser step on this rank's micro batches. Collective."""
        engine, training = self._deepspeed, self.training
        factor = rate_factor(step, training)
        for group, peak in zip(engine.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        engine.train()
        per_sample: list[Tensor] = []
        sums: dict[str, Tensor] = {}
        norm = 0.0
        for batch in micro_batches:
            with self.arithmetic():
                answer = engine(self._to_device(batch), generator)
            per_sample.append(answer.pop("per_sample").detach())
            engine.backward(answer["loss"])
            if training.zero_stage == 0 and engine.is_gradient_accumulation_boundary():
                norm = float(nn.utils.clip_grad_norm_(engine.module.parameters(), training.clip_norm))
            engine.step()
            for name, value in answer.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.team.device)) + value.detach().float()
        if training.zero_stage:
            norm = float(engine.get_global_grad_norm())
        if self.average is not None:
            self.average.update(step)
        totals = self.team.total(torch.stack([sums[name] for name in sums]))
        count = len(micro_batches) * self.team.ranks
        values = dict(zip(sums, (totals / count).tolist(), strict=True))
        return StepResult(values, norm, self._peaks[0] * factor, torch.cat(per_sample))

    @torch.no_grad()
    def evaluate(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The objective's answer in evaluation mode. Collective under ZeRO 3."""
        self._deepspeed.eval()
        with self.arithmetic():
            return self._deepspeed(self._to_device(batch), generator)

    @property
    def objective(self) -> nn.Module:
        """The module that is trained."""
        return self._deepspeed.module

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the objective holds the average of its weights where there is one, else its weights."""
        return nullcontext() if self.average is None else self.average.in_place()

    def weights(self) -> dict[str, Tensor]:
        """Trainable parameters and buffers by name, on the CPU. Collective under ZeRO 3."""
        with self._gathered():
            return {name: value.detach().cpu().clone() for name, value in self._kept().items()}

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `weights` returned. Collective under ZeRO 3."""
        with self._gathered(), torch.no_grad():
            own = self._kept()
            if set(tensors) != set(own):
                raise Psi0Error("the checkpoint's weights do not fit the model; delete the checkpoint folder")
            for name, value in own.items():
                value.copy_(tensors[name])

    def _kept(self) -> dict[str, Tensor]:
        """Trainable parameters and persistent buffers; frozen parameters come from the stage's inputs again."""
        every = self.objective.named_parameters(remove_duplicate=False)
        frozen = {name for name, value in every if not value.requires_grad}
        return {name: value for name, value in self.objective.state_dict().items() if name not in frozen}

    def make_whole(self) -> None:
        """Leave the objective with whole parameters, the frozen ones too; nothing is trained after. Collective."""
        if self.training.zero_stage == 3:
            with self._gathered():
                whole = [value.detach().clone() for value in self.objective.parameters()]
            for parameter, value in zip(self.objective.parameters(), whole, strict=True):
                parameter.data = value

    def optimizer_state(self) -> dict[str, Tensor]:
        """This rank's shard: master weights and the optimiser's moments."""
        state: dict[str, Tensor] = {}
        for index, master in enumerate(self._masters()):
            state[f"{index}.master"] = master.detach().cpu().clone()
            for name, value in self._inner.state.get(master, {}).items():
                state[f"{index}.{name}"] = value.detach().cpu().clone()
        return state

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `optimizer_state` returned on this rank."""
        with torch.no_grad():
            for index, master in enumerate(self._masters()):
                master.copy_(state[f"{index}.master"])
                moments = {key.split(".", 1)[1]: value for key, value in state.items() if key.startswith(f"{index}.")}
                del moments["master"]
                self._inner.state[master] = {
                    name: value.clone() if name == "step" else value.to(master.device, copy=True)
                    for name, value in moments.items()
                }

    @property
    def _inner(self) -> torch.optim.Optimizer:
        optimizer = self._deepspeed.optimizer
        return optimizer.optimizer if self.training.zero_stage else optimizer

    def _masters(self) -> list[Tensor]:
        optimizer = self._deepspeed.optimizer
        if self.training.zero_stage == 3:
            return list(optimizer.fp32_partitioned_groups_flat)
        if self.training.zero_stage:
            return list(optimizer.single_partition_of_fp32_groups)
        return [parameter for group in optimizer.param_groups for parameter in group["params"]]

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        if self.training.zero_stage == 3:
            gathered = _deepspeed(self.team.device).zero.GatheredParameters
            with gathered(list(self.objective.parameters()), modifier_rank=0):
                yield
        else:
            yield

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context in which the objective computes."""
        if self.training.precision == BFLOAT16:
            return torch.autocast(self.team.device.type, torch.bfloat16)
        return nullcontext()

    def _to_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.team.device, non_blocking=True) for name, value in batch.items()}
