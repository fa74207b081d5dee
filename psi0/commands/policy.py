"""`psi0 policy <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Policy folders.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Policy folders."""


@app.command("save-official")
def policy_save_official(
    folder: Annotated[Path, typer.Argument(help="Policy folder, or what `psi0 import official-expert` wrote")],
    file: Annotated[Path, typer.Argument(help="Safetensors file to write")],
) -> None:
    """Write a folder's action expert in the published layout; an imported one comes out bit for bit."""
    from psi0.model.published import save_published

    save_published(folder, file)
    typer.echo(f"written: {file}")
