"""Is an evaluation evidence at all? Under this plan, for this policy, on the seeds that the plan drew."""

from itertools import islice

from psi0.evaluate import plan as planning
from psi0.evaluate.evidence import POLICY_ARM, SCRIPT_ARM, TORCH_ARM, Evidence
from psi0.evaluate.schemas import Evaluation
from psi0.evaluate.stopping import consume
from psi0.params import Params

MAX_INVALID_SHARE = 0.25
"""Share of scenes that may fail to settle before the evidence is void; the world is broken then, not the policy."""
_SEARCHED = 1000
"""How far beyond the episodes at hand a seed is looked for in the plan's series, to tell a foreign one from a gap."""
_WHAT_ACTS = {SCRIPT_ARM: "script", TORCH_ARM: "weights"}


def check_evaluation(
    evaluation: Evaluation, arm: str, evidence: Evidence, params: Params, task: str, plan_sha256: str
) -> list[str]:
    """Reasons why an evaluation is no evidence under this plan for this policy; empty when it is."""
    name = f"{arm}.json"
    reasons = []
    if (evaluation.task, evaluation.arm) != (task, arm):
        reasons.append(f"{name} holds arm {evaluation.arm!r} of task {evaluation.task!r}")
    special = _WHAT_ACTS.get(arm)
    if evaluation.policy != special and (special or evaluation.policy in _WHAT_ACTS.values()):
        reasons.append(f"{name} was run with {evaluation.policy!r}")
    if evaluation.plan_sha256 != plan_sha256:
        reasons.append(f"{name} was made under another plan ({evaluation.plan_sha256[:12]}, not {plan_sha256[:12]})")
    if evaluation.policy_sha256 != evidence.policy_sha256:
        reasons.append(f"{name} judges another policy ({evaluation.policy_sha256[:12]})")
    if evidence.graphs_sha256 and evaluation.graphs_sha256 != evidence.graphs_sha256:
        reasons.append(f"{name} judges other graphs ({evaluation.graphs_sha256[:12] or 'none'})")
    if evaluation.policy in ("graphs", "weights") and evaluation.delay_steps != planning.delay_steps(params):
        reasons.append(f"{name} was run with an inference delay of {evaluation.delay_steps} control steps")
    reasons += [f"{name}: {reason}" for reason in _check_seeds(evaluation, plan_sha256)]
    reasons += [f"{name}: {reason}" for reason in _check_length(evaluation, arm, evidence, params, task)]
    successes = sum(row.success for row in evaluation.rows)
    if (evaluation.summary.episodes, evaluation.summary.successes) != (len(evaluation.rows), successes):
        reasons.append(f"{name}: the summary does not add up to the rows")
    if evaluation.differing_seeds:
        reasons.append(f"{name}: episodes did not repeat exactly (seeds {_some(evaluation.differing_seeds)})")
    return reasons


def _check_seeds(evaluation: Evaluation, plan_sha256: str) -> list[str]:
    seeds = [row.seed for row in evaluation.rows]
    if evaluation.seeds != "plan":
        return ["its seeds were given by a person, not derived from plan and policy"]
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        return [f"seeds occur more than once: {_some(repeated)}"]
    training = [seed for seed in seeds if seed < planning.TRAINING_SEEDS_END]
    if training:
        return [f"seeds from the training range: {_some(training)}"]
    invalid = evaluation.invalid_seeds
    series = list(islice(planning.derived_seeds(plan_sha256, evaluation.policy_sha256), len(seeds) + _SEARCHED))
    known = set(series)
    foreign = [seed for seed in seeds + invalid if seed not in known]
    if foreign:
        return [f"seeds that the plan did not draw: {_some(foreign)}"]
    both = sorted(set(seeds) & set(invalid))
    if both or len(set(invalid)) != len(invalid):
        return [f"seeds are both judged and left out, or left out twice: {_some(both or sorted(invalid))}"]
    drawn = series[: len(seeds) + len(invalid)]
    accounted = {*seeds, *invalid}
    missing = [seed for seed in drawn if seed not in accounted]
    if missing:
        return [f"seeds of the plan are missing: {_some(missing)}"]
    left_out = set(invalid)
    if seeds != [seed for seed in drawn if seed not in left_out]:
        return ["seeds are not in the order of the plan"]
    if len(invalid) > MAX_INVALID_SHARE * max(len(drawn), 8):
        return [f"{len(invalid)} of {len(drawn)} scenes did not settle; the world is broken"]
    return []


def _check_length(evaluation: Evaluation, arm: str, evidence: Evidence, params: Params, task: str) -> list[str]:
    outcomes = [row.success for row in evaluation.rows]
    if arm == TORCH_ARM:
        judged = evidence.evaluations.get(POLICY_ARM)
        same = judged is not None and [row.seed for row in judged.rows] == [row.seed for row in evaluation.rows]
        return [] if same else [f"holds other seeds than {POLICY_ARM}.json"]
    consumed = consume(params, task, arm, outcomes).episodes
    if consumed != len(outcomes):
        return [f"holds {len(outcomes)} episodes, but its test decided after {consumed}"]
    return []


def _some(seeds: list[int]) -> str:
    shown = ", ".join(str(seed) for seed in seeds[:5])
    return f"{shown}, ... ({len(seeds)})" if len(seeds) > 5 else shown or "none"
