"""Script, baselines and policy on the same fresh seeds: one file per arm, and a table of all that are there.

The seeds follow from the plan alone, so an arm that comes later meets the same scenes. They are no evidence for the
gate, whose seeds follow from the policy too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from psi0 import paths
from psi0.baselines.config import KINDS
from psi0.errors import Psi0Error
from psi0.evaluate.arms_text import alone, failures, mean_seconds, success
from psi0.evaluate.evaluation import Arrangement, evaluate
from psi0.evaluate.evidence import POLICY_ARM, SCRIPT_ARM
from psi0.evaluate.plan import delay_steps, derived_seeds, register
from psi0.evaluate.resolve import PolicySpec, resolve
from psi0.evaluate.schemas import Evaluation, read_record, write_record
from psi0.evaluate.worker import Setup
from psi0.files import sha256_json, write_text
from psi0.params import Params, check_task

ARMS = (SCRIPT_ARM, "nearest", "nearest_rematch", "bc", "act", POLICY_ARM)
_NAMES = {
    SCRIPT_ARM: "script",
    "nearest": "nearest demonstration",
    "nearest_rematch": "nearest demonstration, matched again for every chunk",
    "bc": "behaviour cloning",
    "act": "ACT",
    POLICY_ARM: "the policy",
}
_SPARE = 100
"""Seeds beyond those that count, for scenes that do not settle."""
_HEAD = """# {task}: the policy and what it is compared with

`psi0 baseline table --task {task}` wrote this page; docs/baselines.md says what the arms are. All arms meet the same
seeds, which follow from the plan `{plan}`. *Alone* counts seeds on which only that arm, or only the policy, succeeded
(two-sided exact McNemar test). Policy and baselines act with {delay} control steps of inference delay, the script with
none.

| Arm | Success | 95 % Wilson interval | Alone, the policy alone (p) | Mean length | Failures |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class _Line:
    """An arm of the table: what was measured, or why nothing was."""

    arm: str
    found: Evaluation | None
    why_not: str = ""


def fill_table(
    params: Params,
    task: str,
    episodes: int,
    results: Path,
    policy: str | None = None,
    wanted: Sequence[str] | None = None,
    lookup: Callable[[str], Path] | None = None,
    setup: Callable[[Arrangement], Setup] | None = None,
) -> str:
    """Run arms one after the other, leaving `results/TASK/ARM.json` as each ends and `results/TASK.md` anew.

    Finished episodes are kept, so a table that was stopped goes on where it was. An arm that is not here, or was not
    asked for, is shown as its file says, or as missing where there is none made under this plan.

    Args:
        policy: name or folder of the trained policy; None takes `models/graphs/TASK`.
        wanted: arms to run; None takes all.
        lookup: turns `models:/NAME@ALIAS` into a folder on this machine.
        setup: the world of an arm; None takes the simulator's.

    Returns:
        The table.

    Raises:
        Psi0Error: no such task or arm, or the world cannot be built.
    """
    check_task(task)
    for name in wanted or ():
        if name not in ARMS:
            raise Psi0Error(f"arm {name!r} does not exist; arms: {', '.join(ARMS)}")
    plan, problems = register(params, task).sha256, dict[str, str]()
    text = _table(params, task, plan, results, problems)
    for arm in ARMS if wanted is None else [arm for arm in ARMS if arm in wanted]:
        spec = _find(params, task, arm, policy, lookup)
        if isinstance(spec, str):
            problems[arm] = spec
        else:
            run = arrange(plan, arm, spec, episodes)
            write_record(_file(results, task, arm), play(params, task, run, None if setup is None else setup(run)))
        text = _table(params, task, plan, results, problems)
    return text


def arrange(plan_sha256: str, arm: str, spec: PolicySpec, episodes: int) -> Arrangement:
    """An arm on the first `episodes` seeds of the table whose scenes settle. The script looks at nothing."""
    seeds = derived_seeds(plan_sha256, sha256_json("the table of baselines"))
    control = "blind" if arm == SCRIPT_ARM else "none"
    return Arrangement(arm, spec, control, episodes, seeds=list(islice(seeds, episodes + _SPARE)))


def play(params: Params, task: str, run: Arrangement, setup: Setup | None = None) -> Evaluation:
    """Run one arm and leave out where every can stood: that is in the seed, and the file is short enough to commit."""
    found = evaluate(params, task, [run], setup, videos=0)[run.name].evaluation
    return found.model_copy(update={"scenes": {}})


def _find(
    params: Params, task: str, arm: str, policy: str | None, lookup: Callable[[str], Path] | None
) -> PolicySpec | str:
    """What acts in an arm, or why nothing can."""
    name = str(paths.baseline(task, arm)) if arm in KINDS else SCRIPT_ARM if arm == SCRIPT_ARM else policy
    name = name or str(paths.graphs(task))
    made = f"psi0 baseline train {arm} --task {task}" if arm in KINDS else f"dvc repro export@{task}"
    if arm != SCRIPT_ARM and ":" not in name and not Path(name).exists():
        return f"{name} does not exist; `{made}` makes it"
    try:
        return resolve(name, params.control.chunk, lookup)
    except Psi0Error as error:
        return str(error)


def _table(params: Params, task: str, plan: str, results: Path, problems: dict[str, str]) -> str:
    """Write and return the table of the files that are there."""
    lines = [_read(_file(results, task, arm), arm, plan, problems.get(arm, "not run yet")) for arm in ARMS]
    policy = next(line.found for line in lines if line.arm == POLICY_ARM)
    head = _HEAD.format(task=task, plan=plan[:12], delay=delay_steps(params))
    text = head + "".join(f"{_row(line, policy, params.control.policy_hz)}\n" for line in lines)
    write_text(results / f"{task}.md", text)
    return text


def _file(results: Path, task: str, arm: str) -> Path:
    return results / task / f"{arm}.json"


def _read(file: Path, arm: str, plan: str, why_not: str) -> _Line:
    """An arm's file, if it was made under this plan."""
    if not file.exists():
        return _Line(arm, None, why_not)
    try:
        found = read_record(Evaluation, file)
    except Psi0Error as error:
        return _Line(arm, None, str(error))
    if found.plan_sha256 != plan:
        return _Line(arm, None, f"{why_not}; {file.name} was made under another plan")
    return _Line(arm, found)


def _row(line: _Line, policy: Evaluation | None, policy_hz: int) -> str:
    name, found = _NAMES[line.arm], line.found
    if found is None:
        return f"| {name} | missing | – | – | – | {line.why_not} |"
    cells = [*success(found), alone(found, policy), mean_seconds(found.rows, policy_hz), failures(found.rows)]
    return f"| {name} | {' | '.join(cells)} |"
