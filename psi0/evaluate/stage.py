"""The stages `evaluate@task` and `gate@task` of the DAG."""

from collections.abc import Mapping
from pathlib import Path

from psi0 import paths
from psi0.evaluate import plan as planning
from psi0.evaluate.evaluation import Evaluated, evaluate_planned
from psi0.evaluate.evidence import POLICY_ARM, gather
from psi0.evaluate.gate import judge_evidence
from psi0.evaluate.origin import ORIGIN_FILE, read_origin
from psi0.evaluate.report import write_report
from psi0.evaluate.resolve import graphs_spec
from psi0.evaluate.schemas import GateFile, write_record
from psi0.evaluate.video import write_mp4
from psi0.files import publish_folder, write_json
from psi0.params import Params

VIDEOS = "videos"


def evaluate_policy(params: Params, task: str) -> None:
    """Run the exported graphs and their controls in closed loop, torch too where asked; leave `evaluation/<task>`.

    Raises:
        Psi0Error: the graphs are missing or broken, or the world cannot be built.
    """
    plan = planning.register(params, task)
    spec = graphs_spec(paths.graphs(task), params.control.chunk)
    evaluated = evaluate_planned(params, task, spec, paths.policy(task))
    with publish_folder(paths.evaluation(task)) as folder:
        write_record(folder / planning.PLAN_FILE, plan)
        write_evaluations(folder, evaluated)


def write_evaluations(folder: Path, evaluated: Mapping[str, Evaluated]) -> None:
    """Write evaluation files, videos and metrics into a folder."""
    metrics: dict[str, float] = {}
    for arm, result in evaluated.items():
        write_record(folder / f"{arm}.json", result.evaluation)
        for seed, film in result.films.items():
            write_mp4(folder / VIDEOS / f"{arm}_{seed}.mp4", film)
        summary = result.evaluation.summary
        prefix = "" if arm == POLICY_ARM else f"{arm}_"
        metrics[f"{prefix}success_rate"] = summary.success_rate
        metrics[f"{prefix}episodes"] = summary.episodes
        if arm == POLICY_ARM:
            metrics["interval_low"], metrics["interval_high"] = summary.interval.low, summary.interval.high
    write_json(folder / "metrics.json", metrics)


def judge(params: Params, task: str) -> None:
    """Compute the verdict from the evaluation files and write the report; leave `gate/<task>`."""
    evidence = gather(paths.evaluation(task), paths.graphs(task), params, task)
    verdict = judge_evidence(evidence, params, task)
    origin = read_origin(task, verdict.policy_sha256)
    with publish_folder(paths.gate(task)) as folder:
        write_record(folder / "gate.json", verdict)
        write_json(folder / "metrics.json", gate_metrics(verdict))
        write_record(folder / ORIGIN_FILE, origin)
        write_report(folder / "report.html", verdict, evidence, params, paths.evaluation(task) / VIDEOS, origin)
    print(verdict.sentence)


def gate_metrics(verdict: GateFile) -> dict[str, float]:
    """The verdict as flat numbers; `passed` is 1 only for `pass`."""
    metrics: dict[str, float] = {"passed": int(verdict.verdict == "pass")}
    if verdict.floor is not None:
        metrics["success_rate"] = verdict.floor.success_rate
        metrics["episodes"] = verdict.floor.episodes
    if verdict.parity is not None:
        metrics["parity_max_abs_error"] = verdict.parity.max_abs_error
    if verdict.torch is not None:
        metrics["torch_difference"], metrics["torch_p_value"] = verdict.torch.difference, verdict.torch.p_value
    for name, control in verdict.controls.items():
        metrics[f"{name}_upper_bound"] = control.upper_bound
    return metrics
