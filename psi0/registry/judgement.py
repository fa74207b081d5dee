"""A version's verdict, computed again from its evidence under the plan it was judged by, and who contradicts it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from psi0.errors import Psi0Error
from psi0.evaluate.evidence import Evidence, gather
from psi0.evaluate.gate import judge_evidence
from psi0.evaluate.plan import Plan, planned_blocks
from psi0.evaluate.schemas import GateFile, read_record
from psi0.params import Params, load_params


@dataclass(frozen=True)
class Judged:
    """A version's evidence, read and judged again.

    Attributes:
        params: `params.yaml` of its evidence.
        evidence: what the verdict was computed from.
        registered: the verdict as `gate.json` has it.
        recomputed: the verdict as its evaluation files have it.
    """

    params: Params
    evidence: Evidence
    registered: GateFile
    recomputed: GateFile


def judge_again(folder: Path, task: str, graph_hashes: Mapping[str, str] | None = None) -> Judged:
    """Compute the verdict on a version's evidence again, under its own plan.

    Args:
        folder: with the evidence: `evaluation/`, `graphs/`, `gate/`, `params.yaml`.
        task: of the policy.
        graph_hashes: as for `psi0.evaluate.evidence.gather`.

    Raises:
        Psi0Error: `params.yaml` or `gate.json` cannot be read, the evidence is for another task, or the parameters
            know nothing of the task.
    """
    registered = read_record(GateFile, folder / "gate" / "gate.json")
    if registered.task != task:
        raise Psi0Error(f"the evidence is for task {registered.task!r}, not for {task!r}")
    params = load_params(folder / "params.yaml")
    if task not in params.gate.thresholds:
        raise Psi0Error(f"{folder / 'params.yaml'} registers no plan for {task}")
    evidence = gather(folder / "evaluation", folder / "graphs", params, task, graph_hashes)
    return Judged(params, evidence, registered, judge_evidence(evidence, params, task, evidence.plan))


def contradictions(judged: Judged) -> list[str]:
    """Where `gate.json`, the evaluation files, the plan and the parameters of a version do not say the same."""
    registered, recomputed = judged.registered, judged.recomputed
    found = []
    if registered.verdict != recomputed.verdict:
        why = f": {recomputed.reasons[0]}" if recomputed.reasons else ""
        found.append(
            f"has a gate.json that says {registered.verdict}, its evaluation files say {recomputed.verdict}{why}"
        )
    differing = [
        name
        for name in GateFile.model_fields
        if name != "verdict" and getattr(registered, name) != getattr(recomputed, name)
    ]
    if differing:
        found.append(f"has a gate.json that differs from what its evaluation files give in: {', '.join(differing)}")
    if judged.evidence.plan is not None:
        found += _plan_differences(judged.evidence.plan, judged.params)
    return found


def _plan_differences(plan: Plan, params: Params) -> list[str]:
    """Where the plan and the parameters disagree; a value that the plan does not know was added to psi0 since."""
    found = []
    for block, given in planned_blocks(params, plan.task).items():
        for name, value in getattr(plan, block).items():
            if given.get(name) != value:
                found.append(f"has a plan with {block}.{name} {value!r}, but a params.yaml with {given.get(name)!r}")
    return found
