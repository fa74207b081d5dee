"""What an arm came to, as a file, and the table of all arms."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from psi0.ablation.ladder import ARMS, REFERENCE, SEEDS, Arm, arm_params
from psi0.errors import Psi0Error
from psi0.evaluate.arms_text import alone, failures, success
from psi0.evaluate.plan import delay_steps, register
from psi0.evaluate.schemas import SCHEMA_VERSION, Evaluation, Verdict, read_record
from psi0.files import sha256_json, write_text
from psi0.lineage import fingerprint_code
from psi0.params import Params, check_task
from psi0.paths import ROBOT

_NOT_OF_THE_POLICY = {"evaluation", "gate", "promote", "publish", "baselines"}

_HEAD = """# The ladder on {task}

`psi0 ablate run --task {task}{steps}` made the arms and `psi0 ablate table` this page. Where nothing else is said an
arm fine-tunes for {budget:,} steps. All meet the same seeds, which follow from the plan `{plan}`, once with {delay}
control steps of inference delay and once with none. *Alone* counts seeds on which only that arm, or only the recipe,
succeeded with delay (two-sided exact McNemar test). Arms have one training seed each.

| Arm | Success, delayed | 95 % Wilson interval | Alone, the recipe alone (p) | Failures | Success, no delay | 95 % |
|---|---|---|---|---|---|---|
"""


class ArmResult(BaseModel):
    """An arm's two evaluations and what it was made with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    arm: str
    made_of: str = Field(description="Hash of the parameters and the code that make the policy")
    git_commit: str = Field(description="Code that made it")
    training: dict[str, float] = Field(description="metrics.json of stage 3")
    delayed: Evaluation = Field(description="With the plan's inference delay")
    at_once: Evaluation = Field(description="Without inference delay, on the same seeds")
    verdict: Verdict | None = Field(None, description="Of the registered gate, where the arm was sent through it")


def result_file(results: Path, task: str, arm: str) -> Path:
    """Where an arm's result lies."""
    return results / "ladder" / task / f"{arm}.json"


def made_of(params: Params) -> str:
    """Hash of what makes a policy: parameters that a stage before its evaluation reads, and the code of those stages.

    What evaluates it is in the plan.
    """
    content: dict[str, Any] = params.model_dump(mode="json", exclude=_NOT_OF_THE_POLICY)
    return sha256_json({"params": content, "code": fingerprint_code("train", "model", "data", "export")})


def find_result(params: Params, arm: Arm, task: str, steps: int | None, results: Path) -> ArmResult | str:
    """An arm's result under these parameters and this plan, or why there is none."""
    file = result_file(results, task, arm.name)
    if not file.exists():
        return "not run yet"
    try:
        found = read_record(ArmResult, file)
    except Psi0Error as error:
        return str(error)
    if found.made_of != made_of(arm_params(params, arm, task, steps)):
        return f"{file.name} was made with other parameters or code"
    if found.delayed.plan_sha256 != register(params, task).sha256:
        return f"{file.name} was made under another plan"
    return found


def write_table(params: Params, task: str, steps: int | None, results: Path) -> str:
    """Write `results/ladder_<task>.md` from the files that are there, and return it.

    Raises:
        Psi0Error: no such task, or no robot, which is part of the plan.
    """
    check_task(task)
    if not ROBOT.exists():
        raise Psi0Error(f"{ROBOT} is missing; `dvc repro robot` makes it")
    found = {arm.name: find_result(params, arm, task, steps, results) for arm in ARMS}
    reference = found[REFERENCE]
    text = _HEAD.format(
        task=task,
        steps="" if steps is None else f" --steps {steps}",
        budget=steps or params.finetune.steps,
        plan=register(params, task).sha256[:12],
        delay=delay_steps(params),
    )
    for arm in ARMS:
        text += _row(arm, found[arm.name], reference.delayed if isinstance(reference, ArmResult) else None)
    text += _over_seeds([found[name] for name in SEEDS])
    write_text(results / f"ladder_{task}.md", text)
    return text


def _row(arm: Arm, found: ArmResult | str, reference: Evaluation | None) -> str:
    if isinstance(found, str):
        return f"| {arm.says} | missing | – | – | {found} | – | – |\n"
    cells = [
        *success(found.delayed),
        alone(found.delayed, reference),
        failures(found.delayed.rows),
        *success(found.at_once),
    ]
    return f"| {arm.says} | {' | '.join(cells)} |\n"


def _over_seeds(found: list[ArmResult | str]) -> str:
    """What training seeds change."""
    run = [one for one in found if isinstance(one, ArmResult)]
    if len(run) < 2:
        return ""
    rates = [one.delayed.summary.successes / one.delayed.summary.episodes for one in run]
    judged = [one.verdict for one in run if one.verdict is not None]
    passed = f"The registered gate passes {judged.count('pass')} of {len(judged)}."
    mean = sum(rates) / len(rates)
    return (
        f"\nOver {len(run)} training seeds of the recipe ({len(found)} are planned), delayed: {mean:.3f} on average,"
        f" {min(rates):.2f} to {max(rates):.2f}. {passed}\n"
    )
