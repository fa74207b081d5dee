"""`psi0 baseline <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="What the policy is compared with on a task.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """What the policy is compared with on a task."""


@app.command("train")
def baseline_train(
    kind: Annotated[str, typer.Argument(help="act, bc, nearest or nearest_rematch")],
    task: Annotated[str, typer.Option(help="Task whose demonstrations to learn from")] = "pick_can",
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: models/baselines/TASK/KIND")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; default: finetune.steps")] = None,
) -> None:
    """Make a baseline from the prepared demonstrations of a task. Stopped and typed again, it goes on."""
    from psi0 import paths
    from psi0.baselines.config import check_kind
    from psi0.baselines.make import make_baseline
    from psi0.params import load_params

    folder = out or paths.baseline(task, check_kind(kind))
    metrics = make_baseline(load_params(), task, check_kind(kind), folder, steps)
    for name in sorted(metrics):
        typer.echo(f"{name:>24} {metrics[name]:.4g}")
    typer.echo(f"written: {folder}; psi0 evaluate {task} --policy {folder}")


@app.command("table")
def baseline_table(
    task: Annotated[str, typer.Option(help="Task to run")] = "pick_can",
    episodes: Annotated[int, typer.Option(min=1, help="Fresh seeds that every arm runs")] = 100,
    policy: Annotated[
        str | None, typer.Option(help="The trained policy, as `psi0 evaluate` takes it; default: models/graphs/TASK")
    ] = None,
    arms: Annotated[str | None, typer.Option(help="Run these alone, with commas; default: all that are there")] = None,
    results: Annotated[Path, typer.Option(help="Folder of TASK/ARM.json and TASK.md")] = Path("docs/results"),
    show: Annotated[bool, typer.Option("--show", help="Run nothing: write the table of what is there")] = False,
) -> None:
    """Run script, baselines and policy on the same fresh seeds and write the table. Typed again, it goes on."""
    from psi0.evaluate.arms_table import fill_table
    from psi0.params import load_params

    def lookup(address: str) -> Path:
        from psi0.registry.lookup import fetch_policy

        return fetch_policy(address)

    wanted = [] if show else None if arms is None else arms.split(",")
    typer.echo(fill_table(load_params(), task, episodes, results, policy, wanted, lookup))
