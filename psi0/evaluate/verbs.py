"""What people ask for at the command line: evaluate any policy on any seeds, and check a verdict."""

from collections.abc import Callable
from pathlib import Path

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.evaluate import plan as planning
from psi0.evaluate.controls import ATTEMPTED, CONTROLS
from psi0.evaluate.evaluation import Arrangement, evaluate, planned_arm
from psi0.evaluate.evidence import POLICY_ARM, gather
from psi0.evaluate.gate import judge_evidence, numbered
from psi0.evaluate.resolve import resolve
from psi0.evaluate.schemas import Evaluation, GateFile, read_record, write_record
from psi0.evaluate.video import write_mp4
from psi0.params import Params, check_task


def evaluate_named(
    params: Params,
    task: str,
    policy: str,
    control: str = "none",
    seeds: str | None = None,
    level: str | None = None,
    workers: int | None = None,
    video: Path | None = None,
    output: Path | None = None,
    lookup: Callable[[str], Path] | None = None,
) -> Evaluation:
    """Evaluate a policy by name.

    Without `seeds` the registered plan is run: its seeds, its test. With `A:B` every seed of the range is run, and
    the result is evidence for no gate.

    Args:
        video: folder for a film of every episode.
        output: file for the evaluation.

    Raises:
        Psi0Error: unknown task, policy, control or level, or seeds that are not for evaluation.
    """
    check_task(task)
    if control not in CONTROLS:
        raise Psi0Error(f"control {control!r} does not exist; controls: {', '.join(CONTROLS)}")
    params = _with_choices(params, level, workers)
    spec = resolve(policy, params.control.chunk, lookup)
    name = POLICY_ARM if control == "none" else control
    if seeds is None:
        arrangement = planned_arm(params, task, spec, name)
    else:
        chosen = planning.seed_range(seeds)
        arrangement = Arrangement(name, spec, control, len(chosen), seeds=chosen)
    result = evaluate(params, task, [arrangement], videos=arrangement.limit if video else 0)[name]
    if output is not None:
        write_record(output, result.evaluation)
    for seed, film in result.films.items():
        assert video is not None
        write_mp4(video / f"{name}_{seed}.mp4", film)
    return result.evaluation


def describe(evaluation: Evaluation) -> str:
    """An evaluation in a few lines: the rate with its interval, and how episodes failed."""
    summary = evaluation.summary
    sequence = summary.confidence_sequence
    after = (
        f" (descriptive: the test stops early; at any stopping time {sequence.low:.2f} to {sequence.high:.2f})"
        if summary.interval.descriptive
        else ""
    )
    attempts = sum(row.tag == ATTEMPTED for row in evaluation.rows)
    lines = [
        f"{evaluation.policy}, arm {evaluation.arm}: {summary.successes} of {summary.episodes} episodes succeeded, "
        f"{summary.success_rate:.0%}, 95 % Wilson interval {summary.interval.low:.2f} to {summary.interval.high:.2f}"
        f"{after}"
    ]
    if attempts:
        lines.append(f"  went through the motion without its object: {attempts} of {summary.episodes}")
    for row in evaluation.rows:
        if not row.success:
            detail = evaluation.details.get(str(row.seed), "")
            lines.append(f"  seed {row.seed}: {row.tag} after {row.steps} steps{': ' + detail if detail else ''}")
    if evaluation.invalid_seeds:
        left_out = ", ".join(str(seed) for seed in evaluation.invalid_seeds)
        lines.append(f"  left out, the scene did not settle: {left_out}")
    return "\n".join(lines)


def recompute_verdict(params: Params, task: str) -> GateFile:
    """The verdict computed anew from `evaluation/<task>` and `models/graphs/<task>`; nothing is written."""
    evidence = gather(paths.evaluation(task), paths.graphs(task), params, task)
    return judge_evidence(evidence, params, check_task(task))


def check_verdict(params: Params, task: str) -> GateFile:
    """Compute the verdict again and compare it with `gate/<task>/gate.json`.

    Which candidate it was, if the file says so, is the registry's to check.

    Raises:
        Psi0Error: they differ, naming the fields, or the file is missing or broken.
    """
    file = paths.gate(check_task(task)) / "gate.json"
    recorded, computed = read_record(GateFile, file), recompute_verdict(params, task)
    if recorded.attempt is not None:
        computed = numbered(computed, recorded.attempt)
    if recorded == computed:
        return computed
    different = [name for name in GateFile.model_fields if getattr(recorded, name) != getattr(computed, name)]
    raise Psi0Error(
        f"{file} says {recorded.verdict!r}, its evidence says {computed.verdict!r} "
        f"(different: {', '.join(different)}); the file or its evidence was changed afterwards: `dvc repro` rebuilds it"
    )


def _with_choices(params: Params, level: str | None, workers: int | None) -> Params:
    chosen: dict[str, object] = {}
    if level is not None:
        if level not in ("L0", "L1", "L2"):
            raise Psi0Error(f"--level {level!r} does not exist; levels: L0, L1, L2")
        chosen["level"] = level
    if workers is not None:
        if workers < 1:
            raise Psi0Error(f"--workers {workers}: at least 1")
        chosen["workers"] = workers
    return params.model_copy(update={"evaluation": params.evaluation.model_copy(update=chosen)})
