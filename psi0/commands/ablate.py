"""`psi0 ablate <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The ladder: what each part of the recipe gives.", no_args_is_help=True)

Task = Annotated[str, typer.Option(help="Task to fine-tune and play")]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Fine-tuning steps, of which an arm takes its share; default: finetune.steps"),
]
Results = Annotated[Path, typer.Option(help="Folder of ladder/TASK/ARM.json and ladder_TASK.md")]


@app.callback()
def _group() -> None:
    """The ladder: what each part of the recipe gives."""


@app.command("arms")
def ablate_arms() -> None:
    """List the arms and what each changes in params.yaml."""
    from psi0.ablation.ladder import ARMS

    for arm in ARMS:
        fields = [f"{block}.{name}={value}" for block, change in arm.change.items() for name, value in change.items()]
        if arm.merged:
            fields.append("posttrain.steps=pretrain.steps+posttrain.steps")
        if arm.times != 1:
            fields.append(f"finetune.steps times {arm.times:.2g}")
        typer.echo(f"{arm.name:<18} {arm.says}\n{'':<18} {' '.join(fields) or 'nothing changed'}")


@app.command("run")
def ablate_run(
    arms: Annotated[list[str] | None, typer.Argument(help="Arms to run (`psi0 ablate arms`); default all")] = None,
    task: Task = "pick_can",
    steps: Steps = None,
    episodes: Annotated[int, typer.Option(min=1, help="Fresh seeds that every arm plays")] = 100,
    results: Results = Path("docs/results"),
) -> None:
    """Train and play arms, one after the other. Stopped and typed again, it goes on where it was.

    Each arm is built by DVC in a clone of this checkout under .psi0/ablation; what arms have in common is built once.
    Commit first. One arm of the tiny recipe takes about a quarter of an hour on two cores.
    """
    from psi0.ablation.ladder import ARMS, find_arm
    from psi0.ablation.run import run_ladder
    from psi0.params import load_params

    chosen = [find_arm(name) for name in arms] if arms else ARMS
    typer.echo(run_ladder(load_params(), task, chosen, episodes, results, steps, typer.echo))


@app.command("table")
def ablate_table(task: Task = "pick_can", steps: Steps = None, results: Results = Path("docs/results")) -> None:
    """Write the table of the arms that are there, and show the others as missing."""
    from psi0.ablation.result import write_table
    from psi0.params import load_params

    typer.echo(write_table(load_params(), task, steps, results))
