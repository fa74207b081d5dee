"""A training plan on paper: what every stage will need, before anything is trained, beside the published figures."""

from dataclasses import dataclass
from pathlib import Path

from psi0 import params, paths
from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.train.plan_cost import Cost, stage_costs

A100_TFLOPS = 312.0
"""Dense bfloat16 peak of an A100 (data sheet) [TFLOP/s]."""
UTILISATION = 0.4
"""Share of the peak that well-tuned training of models of this size reaches."""
PUBLISHED_FRAMES = {"egodex": 90_000_000, "humanoid_everyday": 3_000_000}
"""EgoDex: 829 h at 30 Hz (arXiv 2505.11709). Humanoid Everyday: 31 h at 30 Hz, rounded (arXiv 2510.08807)."""
PUBLISHED_GPU_HOURS = {"pretrain": (64, 240.0), "posttrain": (32, 30.0)}
"""A100s and hours (paper VI-A, VI-B); the paper gives none for stage 3."""


@dataclass(frozen=True)
class StagePlan:
    """One stage.

    Attributes:
        stage: name.
        cost: per sample.
        training: its block of parameters.
        gpus: processes it is planned for.
        data: dataset -> samples drawn from it, and frames it holds where that is known.
        seconds: of computing at the stated utilisation.
    """

    stage: str
    cost: Cost
    training: params.Training
    gpus: int
    data: dict[str, tuple[int, int | None]]
    seconds: float

    @property
    def samples(self) -> int:
        """Samples over all steps."""
        return self.training.steps * self.training.batch

    @property
    def micro_batch(self) -> int:
        """Samples per GPU and pass."""
        return self.training.batch // (self.gpus * self.training.accumulation)

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and AdamW's state of one GPU (Muon's is smaller): fp32, divided as the ZeRO stage says."""
        total, trained, zero = self.cost.parameters, self.cost.trained, self.training.zero_stage
        weights = 4 * total // (self.gpus if zero >= 3 else 1)
        gradients = 4 * trained // (self.gpus if zero >= 2 else 1)
        # ZeRO keeps its own master copy beside the two moments; plain data parallel has none.
        optimizer = (12 * trained // self.gpus) if zero else 8 * trained
        return weights + gradients + optimizer + self.average_bytes

    @property
    def average_bytes(self) -> int:
        """The moving average of the weights, whole on every GPU."""
        return 4 * self.cost.trained if getattr(self.training, "ema", 0.0) else 0

    @property
    def activation_bytes(self) -> int:
        """What autograd keeps on one GPU."""
        recomputes = getattr(self.training, "gradient_checkpointing", False)
        numbers = self.cost.checkpoints if recomputes else self.cost.activations
        return numbers * self.micro_batch * (2 if self.training.precision == "bfloat16" else 4)

    @property
    def checkpoint_bytes(self) -> int:
        """A checkpoint of ours: trained weights, their average and the whole optimiser state."""
        return (4 + (12 if self.training.zero_stage else 8)) * self.cost.trained + self.average_bytes

    def lines(self) -> list[str]:
        """As a person reads it."""
        own, hours = self.training, self.seconds / 3600
        published = PUBLISHED_GPU_HOURS.get(self.stage)
        paper = ""
        if published:
            paper = f"; paper: {published[0]} A100, {published[1]:.0f} h ({published[0] * published[1]:,.0f} GPU hours)"
        recomputes = ", layers recomputed" if getattr(own, "gradient_checkpointing", False) else ""
        memory = self.state_bytes + self.activation_bytes
        return [
            self.stage,
            f"  parameters     {self.cost.parameters:,}, {self.cost.trained:,} of them trained",
            f"  memory per GPU {_bytes(memory)}: {_bytes(self.state_bytes)} state under ZeRO {own.zero_stage},"
            f" {_bytes(self.activation_bytes)} activations ({self.micro_batch} samples{recomputes})",
            f"  batch          {own.batch} = {self.gpus} GPUs x {self.micro_batch} x {own.accumulation}"
            f" (planned with {own.ranks} ranks)",
            f"  samples        {self.samples:,} in {own.steps:,} steps; " + "; ".join(self._passes()),
            f"  computing      {self.cost.flops * self.samples:.2e} FLOP, {self.cost.flops / 1e9:,.1f} G per sample",
            f"  time           {_duration(hours)} ({hours * self.gpus:,.1f} GPU hours){paper}",
            f"  checkpoint     {_bytes(self.checkpoint_bytes)}",
            *self._features(),
        ]

    def _features(self) -> list[str]:
        if not getattr(self.training, "cache_features", False):
            return []
        each = 4 * self.cost.features
        frames = sum(count or 0 for _, count in self.data.values())
        whole = f", {_bytes(each * frames)} of disk for {frames:,} frames" if frames else ""
        return [f"  features       {_bytes(each)} per frame{whole}; computed once, beside the computing above"]

    def _passes(self) -> list[str]:
        return [
            f"{samples / frames:.1f} passes over {frames:,} frames of {name}"
            if frames
            else f"{samples:,} of {name}, whose frames are not counted yet"
            for name, (samples, frames) in self.data.items()
        ]


def plan(
    everything: params.Params,
    gpus: int | None = None,
    peak_tflops: float = A100_TFLOPS,
    utilisation: float = UTILISATION,
    root: Path | None = None,
) -> list[StagePlan]:
    """Plan the three stages.

    Args:
        everything: parameters of the recipe.
        gpus: for every stage; None takes each stage's `ranks`.
        peak_tflops: of one GPU [TFLOP/s].
        utilisation: share of it that is reached.
        root: checkout with prepared datasets of these parameters, whose frames are counted; None if there is none.

    Raises:
        Psi0Error: a batch that cannot be dealt out to so many GPUs, or a share outside 0 to 1.
    """
    if not 0 < utilisation <= 1 or peak_tflops <= 0:
        raise Psi0Error("--utilisation must lie in (0, 1] and --peak-tflops above 0")
    plans = []
    for stage, cost in stage_costs(everything).items():
        training: params.Training = getattr(everything, stage)
        count = gpus or training.ranks
        if training.batch % (count * training.accumulation):
            raise Psi0Error(
                f"{stage}.batch {training.batch} cannot be dealt out to {count} GPUs x {stage}.accumulation"
                f" {training.accumulation}; choose --gpus among its divisors"
            )
        seconds = cost.flops * training.steps * training.batch / (count * peak_tflops * 1e12 * utilisation)
        plans.append(StagePlan(stage, cost, training, count, _data(stage, everything, root), seconds))
    return plans


def _data(stage: str, everything: params.Params, root: Path | None) -> dict[str, tuple[int, int | None]]:
    """Samples drawn from each dataset of a stage, and how many frames it holds."""
    training: params.Training = getattr(everything, stage)
    if stage == "finetune":
        prepared = _prepared_frames(root, paths.prepared_demonstrations(everything.tasks[0]))
        return {everything.tasks[0]: (training.steps * training.batch, prepared)}
    drawn = {"humanoid_everyday": training.steps}
    if isinstance(training, params.Pretrain):
        late = training.humanoid_everyday_steps
        drawn = {"egodex": training.steps - late, "humanoid_everyday": late}
    frames = {name: _frames_of(name, everything, root) for name in PUBLISHED_FRAMES}
    found = {name: (steps * training.batch, frames[name]) for name, steps in drawn.items()}
    if isinstance(training, params.Posttrain) and training.cotrain:
        counted = [count for count in frames.values() if count is not None]
        whole = sum(counted) if len(counted) == len(frames) else None
        found["egodex and humanoid_everyday"] = (training.steps * training.batch, whole)
    return found


def _frames_of(name: str, everything: params.Params, root: Path | None) -> int | None:
    """Frames of EgoDex or Humanoid Everyday: of real data those that were published, of recorded data those here."""
    if getattr(everything, name).source != "recorder":
        return PUBLISHED_FRAMES[name]
    folders = {"egodex": paths.PREPARED_EGODEX, "humanoid_everyday": paths.PREPARED_HUMANOID_EVERYDAY}
    return _prepared_frames(root, folders[name])


def _prepared_frames(root: Path | None, folder: Path) -> int | None:
    if root is None or not (root / folder / "meta/info.json").is_file():
        return None
    return int(read_json(root / folder / "meta/info.json")["total_frames"])


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def _duration(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.1f} s"
