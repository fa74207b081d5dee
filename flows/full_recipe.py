"""Flow `psi0`: the whole recipe, from what is stale to a published bundle. It reads from top to bottom.

DVC decides what is stale, this flow runs it, MLflow remembers it; none of them keeps a copy of another's knowledge.
"""

import time
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.states import Completed

from flows.compare import compare_where_due
from flows.dag import Stage, choose_tasks, read_dag
from flows.failures import failed, mark_crashed, run_subflow
from flows.memory import Memory
from flows.progress import Progress, show_tables
from flows.promote import promote
from flows.results import Result
from flows.stages import build, end_leftovers, may_be_stale, stage_environment, up_to_date
from flows.summary import Summary, TaskLine, parts_of, render, stage_lines, write_summary
from flows.workspace import one_recipe_at_a_time
from psi0.connection import connect
from psi0.errors import Psi0Error
from psi0.params import load_params


@flow(name="psi0", log_prints=True)
def full_recipe(tasks: list[str] | None = None, strict: bool = False) -> Any:
    """Build what is stale, register what was judged, promote and publish what passed.

    Args:
        tasks: tasks of `params.yaml` to make; all of them by default.
        strict: fail when a verdict is not `pass`. Otherwise a refusal is a result like any other.
    """
    name = str(runtime.flow_run.name)
    try:
        with one_recipe_at_a_time(name, str(runtime.flow_run.id)) as killed:
            end_leftovers(get_run_logger().warning)
            if killed:
                mark_crashed(killed)
            summary = walk(name, tasks)
    except Psi0Error as error:
        return failed(error)
    write_summary(str(runtime.flow_run.id), summary)
    print(render(summary))
    if strict and not summary.passed:
        return failed(Psi0Error("a verdict is not `pass`, and the run is strict; the reports say why"))
    return Completed(message=", ".join(f"{line.task}: {line.verdict}" for line in summary.tasks))


def walk(name: str, tasks: list[str] | None) -> Summary:
    """The recipe from first to last, in this workspace."""
    begin = time.monotonic()
    chosen = choose_tasks(load_params(), tasks)
    stages = read_dag(chosen)
    memory = Memory(name)
    memory.end_leftovers()
    try:
        results = build_stale(stages, memory)
        built_after = time.monotonic() - begin
        lines = conclude(chosen, memory)
    except BaseException as error:
        memory.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    seconds = time.monotonic() - begin
    summary = summarise(name, results, lines, seconds, publication=seconds - built_after)
    summary.leaderboard = memory.write_leaderboard()
    memory.end("FINISHED", {"minutes": summary.minutes, "stages_built": len(memory.built)})
    return summary


def build_stale(stages: list[Stage], memory: Memory) -> dict[str, Result]:
    """Visit the stages in order: one Prefect task each, a cached state for what is up to date."""
    results: dict[str, Result] = {}
    progress = Progress(len(stages))
    for stage in stages:
        if may_be_stale(stage, results):
            run_id = memory.begin(stage.name)
            environment = stage_environment({**connect().environment(), **memory.environment(run_id)})
            try:
                results[stage.name] = build(stage.name, environment)
            except BaseException as error:
                memory.abandon(run_id, killed=not isinstance(error, Exception))
                raise
            memory.complete(results[stage.name], run_id)
        else:
            results[stage.name] = up_to_date(stage.name)
        progress.show(results)
    return results


def conclude(tasks: list[str], memory: Memory) -> list[TaskLine]:
    """Register what was judged; compare what is news with the champions, all tasks as one family; promote it."""
    for task in tasks:
        memory.reconcile(task)
    concluded = [memory.register(task) for task in tasks]
    news = [version for _, version in concluded if version.verdict == "pass" and memory.is_news(version)]
    compare_where_due(news)
    for version in news:
        run_subflow(promote, version.task, version.number, because=f"it passed the gate in {memory.name}")
    for line, version in concluded:
        line.bundle = memory.bundle_line(version)
        line.aliases = memory.aliases_of(version)
    return [line for line, _ in concluded]


def summarise(
    name: str, results: dict[str, Result], lines: list[TaskLine], seconds: float, publication: float
) -> Summary:
    """What this run has to tell, and the artifacts on Prefect's page; times in seconds."""
    connection = connect()
    parts = {**parts_of(results), "publication": publication / 60}
    parts["overhead"] = parts.get("overhead", 0.0) + max(0.0, seconds / 60 - sum(parts.values()))
    summary = Summary(
        name=name,
        stages=stage_lines(results),
        tasks=lines,
        parts={part: round(minutes, 3) for part, minutes in parts.items()},
        minutes=round(seconds / 60, 3),
        mlflow=connection.mlflow_uri,
        prefect=connection.prefect_api.removesuffix("/api"),
    )
    show_tables(summary)
    return summary
