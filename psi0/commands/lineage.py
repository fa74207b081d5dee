"""`psi0 lineage <verb>`."""

from typing import Annotated

import typer

app = typer.Typer(
    help="From a version back to its files (`psi0 registry lineage` shows the way).", no_args_is_help=True
)


@app.command("restore")
def lineage_restore(
    version: Annotated[str, typer.Argument(help="Version number or alias")],
    task: Annotated[
        str | None, typer.Option(help="Task of the policy; needed where policies of several tasks are registered")
    ] = None,
) -> None:
    """Put the dvc.lock of a version into this checkout; `dvc pull` or `dvc repro` then brings back its files."""
    from psi0.registry.restore import restore_lock
    from psi0.registry.tracking import open_tracking
    from psi0.registry.versions import choose_task, find_version

    client = open_tracking()
    typer.echo(restore_lock(client, find_version(client, choose_task(client, task), version)))
