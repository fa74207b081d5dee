"""Run the ladder: build each arm in its workspace, play it, leave its file, write the table anew."""

from collections.abc import Callable, Sequence
from pathlib import Path

from psi0.ablation.ladder import Arm, arm_params
from psi0.ablation.result import ArmResult, find_result, made_of, result_file, write_table
from psi0.ablation.workspace import build, committed, prepare_workspace
from psi0.errors import Psi0Error
from psi0.evaluate.arms_table import arrange, play
from psi0.evaluate.evidence import POLICY_ARM
from psi0.evaluate.plan import register
from psi0.evaluate.resolve import resolve
from psi0.evaluate.schemas import Evaluation, GateFile, Verdict, read_record, write_record
from psi0.files import read_json
from psi0.params import Params
from psi0.paths import gate, graphs, policy


def run_ladder(
    params: Params,
    task: str,
    arms: Sequence[Arm],
    episodes: int,
    results: Path,
    steps: int | None = None,
    hear: Callable[[str], None] = print,
) -> str:
    """Run arms one after the other; an arm whose file is there is not run again, an arm that fails stops none.

    Args:
        episodes: fresh seeds that every arm runs, the same for all.
        results: folder of `ladder/TASK/ARM.json` and `ladder_TASK.md`.
        steps: of fine-tuning, the budget of which an arm takes its share; None takes `finetune.steps`.
        hear: told what happens, line by line.

    Returns:
        The table.

    Raises:
        Psi0Error: no such task, no robot, a checkout that cannot be cloned; at the end, what failed.
    """
    write_table(params, task, steps, results)
    commit, failed = committed(results), []
    for arm in arms:
        found = find_result(params, arm, task, steps, results)
        if isinstance(found, ArmResult) and found.delayed.summary.episodes >= episodes:
            hear(f"{arm.name}: done before")
            continue
        try:
            _run_arm(params, task, arm, commit, episodes, results, steps, hear)
        except Psi0Error as error:
            failed.append(f"{arm.name}: {error}")
            hear(failed[-1])
        write_table(params, task, steps, results)
    if failed:
        raise Psi0Error("\n".join(failed))
    return write_table(params, task, steps, results)


def _run_arm(
    params: Params,
    task: str,
    arm: Arm,
    commit: str,
    episodes: int,
    results: Path,
    steps: int | None,
    hear: Callable[[str], None],
) -> None:
    own = arm_params(params, arm, task, steps)
    folder = prepare_workspace(arm.name, own, commit)
    hear(f"{arm.name}: {arm.says}, in {folder}")
    build(folder, f"export@{task}", hear)
    graphs_folder = folder / graphs(task)
    delayed = _play(params, task, graphs_folder, episodes)
    hear(f"{arm.name}: {delayed.summary.successes} of {delayed.summary.episodes}")
    result = ArmResult(
        arm=arm.name,
        made_of=made_of(own),
        git_commit=commit,
        training=read_json(folder / policy(task) / "metrics.json"),
        delayed=delayed,
        at_once=_play(params, task, graphs_folder, episodes, delay_ms=0),
        verdict=_judge(folder, task, hear) if arm.gated else None,
    )
    write_record(result_file(results, task, arm.name), result)


def _judge(folder: Path, task: str, hear: Callable[[str], None]) -> Verdict:
    """What the registered gate says about the policy of a workspace."""
    build(folder, f"gate@{task}", hear)
    judged = read_record(GateFile, folder / gate(task) / "gate.json")
    hear(judged.sentence)
    return judged.verdict


def _play(params: Params, task: str, folder: Path, episodes: int, delay_ms: int | None = None) -> Evaluation:
    """The graphs of a folder on the ladder's seeds, which do not depend on the delay."""
    plan = register(params, task).sha256
    if delay_ms is not None:
        evaluation = params.evaluation.model_copy(update={"inference_delay_ms": delay_ms})
        params = params.model_copy(update={"evaluation": evaluation})
    run = arrange(plan, POLICY_ARM, resolve(str(folder), params.control.chunk), episodes)
    return play(params, task, run)
