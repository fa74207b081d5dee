"""The training loop, the same for all stages: resume, step, look, save, and write the result at the end."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from psi0.files import publish_folder, write_json
from psi0.lineage import Checkout, Lineage, write_lineage
from psi0.train import checkpoint, guards, sampler
from psi0.train.compiling import compile_blocks
from psi0.train.engine import Engine, StepResult
from psi0.train.history import History
from psi0.train.precision import FLOAT32
from psi0.train.recipe import Recipe
from psi0.train.reports import Reports
from psi0.train.stream import StepData, Stream
from psi0.train.team import Team
from psi0.train.validation import validate

RESULT = "result"


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        folder: its checkpoints, reports and result: `<home>/checkpoints/<stage>/<fingerprint>`.
        stage: name, with the task if there is one.
        fingerprint: hash of what the run depends on.
        lineage: what it is made from.
        checkout: the code that runs it.
        log_every: steps between reports.
    """

    folder: Path
    stage: str
    fingerprint: str
    lineage: Lineage
    checkout: Checkout
    log_every: int


def train(recipe: Recipe, run: Run, team: Team, after_step: Callable[[int], None] | None = None) -> None:
    """Train to the end and leave `result/` in the run's folder. Collective.

    Args:
        recipe: what to train.
        run: where to keep checkpoints and reports.
        team: this process's place.
        after_step: called with the number of steps taken, after each.

    Raises:
        Psi0Error: a loss that is not finite, unreadable data, an unwritable disk, a checkpoint of other ranks.
    """
    training = recipe.training
    _be_deterministic(training.threads, training.seed)
    reports = Reports(run.folder, training, run.log_every, team)
    if training.compile == "auto":
        reports.say(compile_blocks(recipe.objective, team.device))
    engine = Engine(recipe.objective, recipe.groups(), training, team)
    history = History(training.steps)
    recipe.prepare(engine, run.lineage, reports.say)

    done = _resume(run, engine, history, team, reports)
    if done == 0:
        history.validated(0, validate(recipe, engine, team))
    stream = Stream(recipe, done, team)
    for data in stream:
        team.raise_together(data.problem)
        result = _step(engine, data.micro_batches, data.step, training.seed, team)
        _refuse_non_finite(data, result, team)
        done = data.step + 1
        history.add(
            done,
            {**result.values, "gradient_norm": result.gradient_norm, "learning_rate": result.learning_rate},
        )
        if done % training.validation_every == 0 or done == training.steps:
            history.validated(done, validate(recipe, engine, team))
        if done % training.checkpoint_every == 0 or done == training.steps:
            _save(run, done, engine, history, team, training.seed)
        reports.step(done, result, stream.waited, history)
        if after_step:
            after_step(done)
    _write_result(recipe, run, engine, history, team)


def _be_deterministic(threads: int, seed: int) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Memory that is handed out but not written yet decides nothing here; filling it costs a tenth of every step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def _resume(run: Run, engine: Engine, history: History, team: Team, reports: Reports) -> int:
    """Steps already taken, with weights, optimiser and history put back; 0 for a new run."""
    found = checkpoint.newest(run.folder, reports.say)
    if found is None:
        return 0
    folder, manifest = found
    state = checkpoint.restore(folder, manifest, engine, team)
    history.load(state.history)
    reports.say(f"resumed after step {state.step} from {folder}")
    return state.step


def _step(engine: Engine, micro_batches: list[dict[str, torch.Tensor]], step: int, seed: int, team: Team) -> StepResult:
    """One optimiser step; all noise, dropout included, is a function of seed, step and rank."""
    noise = sampler.noise_seed(seed, step, team.rank)
    torch.manual_seed(noise)
    generator = torch.Generator(device=team.device).manual_seed(noise)
    return engine.step(micro_batches, step, generator)


def _refuse_non_finite(data: StepData, result: StepResult, team: Team) -> None:
    loss, norm = result.values["loss"], result.gradient_norm
    if guards.all_finite(loss, norm):
        return
    joined = {
        name: torch.cat([batch[name] for batch in data.micro_batches])
        for name in data.micro_batches[0]
        if data.micro_batches[0][name].is_floating_point()
    }
    suspects = guards.poisoned(joined, result.per_sample)
    # A rank that finds the culprit speaks; if none does, rank 0 names its whole batch.
    mine = guards.describe(data.step, loss, norm, data.names, suspects)
    team.raise_together(mine if suspects else None)
    team.raise_together(mine if team.leads else None)


def _save(run: Run, done: int, engine: Engine, history: History, team: Team, seed: int) -> None:
    training = engine.training

    def manifest(hashes: dict[str, str]) -> checkpoint.Manifest:
        return checkpoint.Manifest(
            stage=run.stage,
            fingerprint=run.fingerprint,
            step=done,
            ranks=team.ranks,
            zero_stage=training.zero_stage,
            precision=training.precision,
            lineage=run.lineage,
            checkout=run.checkout,
            sha256=hashes,
        )

    state = checkpoint.State(step=done, samples_seen=done * training.batch, seed=seed, history=history.to_json())
    checkpoint.save(run.folder, manifest, state, engine, team)


def _write_result(recipe: Recipe, run: Run, engine: Engine, history: History, team: Team) -> None:
    """Weights, `metrics.json` and the curve, in one step."""
    with engine.averaged():
        numbers = _metrics(recipe, history) | recipe.closing(engine)
        engine.make_whole()
        if team.leads:
            with publish_folder(run.folder / RESULT) as folder:
                recipe.write_result(folder, run.lineage)
                write_lineage(folder, run.lineage)
                write_json(folder / "metrics.json", numbers)
                history.write(folder)
    team.barrier()


def _metrics(recipe: Recipe, history: History) -> dict[str, float]:
    validated = [row for row in history.rows if "validation_loss" in row]
    losses = [row["loss"] for row in history.rows if "loss" in row]
    return {
        "steps": recipe.training.steps,
        "bfloat16_products": float(recipe.training.precision != FLOAT32),
        "validation_loss_start": validated[0]["validation_loss"],
        **({"training_loss": losses[-1]} if losses else {}),
        **{name: value for name, value in validated[-1].items() if name.startswith("validation_")},
        **recipe.trivial(),
    }
