"""`psi0 data <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Prepared datasets.", no_args_is_help=True)


@app.command("show")
def data_show(dataset: Annotated[Path, typer.Argument(help="Folder of a LeRobot v3.0 dataset")]) -> None:
    """Print a dataset's episodes, rates, moving channels, and what was set aside with the reason."""
    from psi0.data.show import show

    show(dataset)
