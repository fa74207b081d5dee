"""The verdict: a pure function of the evaluation files, the parity report and the registered plan.

`void` means that the evidence is not what the plan asked for (other plan, other policy, wrong seeds, a broken file):
it says nothing about the policy. `refuse` means that it is, and does not suffice. Everything else is `pass`.
"""

from psi0.errors import Psi0Error
from psi0.evaluate import plan as planning
from psi0.evaluate.control_test import control_bound
from psi0.evaluate.evidence import POLICY_ARM, TORCH_ARM, Evidence, required_arms
from psi0.evaluate.intervals import confidence_sequence, wilson
from psi0.evaluate.paired import compare_with_torch
from psi0.evaluate.schemas import ControlResult, Floor, GateFile, Parity, TorchComparison, Verdict
from psi0.evaluate.sequential import floor_test
from psi0.evaluate.stopping import consume, control_test
from psi0.evaluate.validity import check_evaluation
from psi0.params import Params


def judge_evidence(evidence: Evidence, params: Params, task: str, plan: planning.Plan | None = None) -> GateFile:
    """Compute the verdict. Deterministic: the same evidence and parameters give the same bytes.

    Args:
        plan: the plan to judge under; None registers that of `params` with the simulator as it is now. An audit of
            an old version hands over that version's own.
    """
    plan_sha256 = (plan or planning.register(params, task)).sha256
    void = list(evidence.problems)
    if evidence.plan is not None and evidence.plan.sha256 != plan_sha256:
        void.append(f"{planning.PLAN_FILE} is another plan: parameters or simulator have changed since")
    for arm in required_arms(params, task):
        evaluation = evidence.evaluations.get(arm)
        if evaluation is not None:
            void += check_evaluation(evaluation, arm, evidence, params, task, plan_sha256)
    floor = _floor(evidence, params, task)
    controls = _controls(evidence, params, task)
    parity = _parity(evidence, params)
    torch = _torch(evidence)
    refuse = _refusals(evidence, params, floor, controls, parity, torch)
    verdict: Verdict = "void" if void else "refuse" if refuse else "pass"
    reasons = void or refuse
    return GateFile(
        task=task,
        verdict=verdict,
        sentence=_sentence(task, verdict, floor, reasons),
        reasons=reasons,
        plan_sha256=plan_sha256,
        policy_sha256=evidence.policy_sha256,
        graphs_sha256=evidence.graphs_sha256,
        floor=floor,
        controls=controls,
        parity=parity,
        torch=torch,
        evidence=evidence.files,
    )


def numbered(verdict: GateFile, attempt: int) -> GateFile:
    """The same verdict, saying which candidate of its task this was under its plan (1 for the first).

    Each candidate meets seeds of its own, so each has the same chance of a false promotion; among many, one becomes
    likely. Only the registry knows how many there were: the verdict of the `gate` stage has no number.
    """
    sentence = _sentence(verdict.task, verdict.verdict, verdict.floor, verdict.reasons, attempt)
    return GateFile.model_validate({**verdict.model_dump(), "attempt": attempt, "sentence": sentence})


def _floor(evidence: Evidence, params: Params, task: str) -> Floor | None:
    evaluation = evidence.evaluations.get(POLICY_ARM)
    if evaluation is None:
        return None
    threshold = params.gate.thresholds[task]
    result = consume(params, task, POLICY_ARM, [row.success for row in evaluation.rows])
    sequential = params.gate.fixed_n == 0
    return Floor(
        test="sequential" if sequential else "fixed",
        p0=threshold.p0,
        p1=threshold.p1,
        alpha=params.gate.alpha,
        beta=params.gate.beta,
        n_max=floor_test(params, task).n_max,
        decision=result.decision,
        episodes=result.episodes,
        successes=result.successes,
        success_rate=_rate(result.successes, result.episodes),
        interval=wilson(result.successes, result.episodes, descriptive=sequential),
        confidence_sequence=confidence_sequence(result.successes, result.episodes),
    )


def _controls(evidence: Evidence, params: Params, task: str) -> dict[str, ControlResult]:
    results = {}
    for name, ceiling in params.control_ceilings(task).items():
        evaluation = evidence.evaluations.get(name)
        if evaluation is None:
            continue
        outcomes = [row.success for row in evaluation.rows]
        episodes, successes = len(outcomes), sum(outcomes)
        results[str(name)] = ControlResult(
            episodes=episodes,
            successes=successes,
            success_rate=_rate(successes, episodes),
            upper_bound=round(control_bound(successes, episodes, control_test(params, name).n_max), 6),
            ceiling=ceiling,
            holds=consume(params, task, name, outcomes).decision == "accept",
        )
    return results


def _parity(evidence: Evidence, params: Params) -> Parity | None:
    if evidence.max_abs_error is None:
        return None
    limit = params.export.max_abs_error
    return Parity(max_abs_error=evidence.max_abs_error, limit=limit, holds=evidence.max_abs_error <= limit)


def _torch(evidence: Evidence) -> TorchComparison | None:
    graphs, torch = evidence.evaluations.get(POLICY_ARM), evidence.evaluations.get(TORCH_ARM)
    if graphs is None or torch is None:
        return None
    try:
        return compare_with_torch(graphs.rows, torch.rows)
    except Psi0Error:  # Other seeds: the evidence is void, and says so itself.
        return None


def _refusals(
    evidence: Evidence,
    params: Params,
    floor: Floor | None,
    controls: dict[str, ControlResult],
    parity: Parity | None,
    torch: TorchComparison | None,
) -> list[str]:
    reasons = []
    evaluation = evidence.evaluations.get(POLICY_ARM)
    if evaluation is not None and evaluation.privileged:
        reasons.append(f"{evaluation.policy} reads the simulator's state: such a policy cannot be promoted")
    if parity is not None and not parity.holds:
        reasons.append(
            f"the exported graphs differ from torch by {parity.max_abs_error:.2g}; "
            f"at most {parity.limit:.2g} is accepted"
        )
    if floor is not None and floor.decision != "accept":
        reasons.append(_floor_reason(floor))
    for name, control in controls.items():
        if not control.holds:
            reasons.append(_control_reason(name, control, params))
    if torch is not None and not torch.holds:
        reasons.append(
            f"the exported graphs and torch differ in closed loop: of {torch.episodes} common seeds the graphs alone "
            f"succeed on {torch.graphs_only}, torch alone on {torch.torch_only} (exact McNemar p {torch.p_value:.3f})"
        )
    return reasons


def _floor_reason(floor: Floor) -> str:
    count = f"{floor.successes} of {floor.episodes} episodes succeeded"
    if floor.decision == "reject":
        if floor.test == "fixed":
            return f"a success rate above {floor.p0:.2f} is not shown: {count}"
        return f"the floor test says no: {count}, which fits a rate of {floor.p0:.2f} better than one of {floor.p1:.2f}"
    if floor.episodes < floor.n_max:
        return f"too few episodes for a decision: {count}, up to {floor.n_max} are planned"
    return f"no decision within {floor.n_max} episodes: {count}"


def _control_reason(name: str, control: ControlResult, params: Params) -> str:
    count = f"{control.successes} of {control.episodes} episodes succeeded"
    test = control_test(params, name)
    if test.most_successes < 0:
        return f"control {name}: {test.n_max} episodes are too few to show a rate below {control.ceiling:.2f}"
    if control.episodes < test.n_max and control.successes <= test.most_successes:
        return f"control {name} is unfinished: {count}, up to {test.n_max} are planned"
    return (
        f"control {name}, which must fail, may succeed too often: {count}, "
        f"upper 95 % bound {control.upper_bound:.2f}, ceiling {control.ceiling:.2f}"
    )


def _sentence(task: str, verdict: Verdict, floor: Floor | None, reasons: list[str], attempt: int | None = None) -> str:
    candidate = task if attempt is None else f"{task}, candidate {attempt} under this plan,"
    count = f"{floor.successes} of {floor.episodes} episodes" if floor else "no episodes"
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    if verdict == "pass":
        return f"{candidate} passes: {count} succeeded, every control fails as it must, and the graphs equal torch."
    if verdict == "refuse":
        return f"{candidate} is refused: {reasons[0]}{more}."
    return f"The evidence for {candidate} is void: {reasons[0]}{more}."


def _rate(successes: int, episodes: int) -> float:
    return round(successes / episodes, 6) if episodes else 0.0
