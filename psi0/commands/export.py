"""`psi0 export <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Policies as ONNX graphs.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Policies as ONNX graphs; the trained one is exported by `psi0 stage export`."""


@app.command("mean-demonstration")
def export_mean(
    task: Annotated[str, typer.Argument(help="Task whose demonstrations are averaged")],
    to: Annotated[Path | None, typer.Option(help="Graph folder to write; default: models/graphs/TASK")] = None,
) -> None:
    """Write the mean demonstration as graphs: a policy without eyes, which the gate must refuse."""
    from psi0.export.mean_demonstration import export_mean_demonstration
    from psi0.params import check_task, load_params

    mean = export_mean_demonstration(load_params(), check_task(task), to)
    typer.echo(f"the mean demonstration of {task}: {len(mean.actions)} control steps, policy {mean.sha256[:12]}")
