"""`psi0 engine <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="TensorRT engines of exported graphs.", no_args_is_help=True)


@app.command("build")
def engine_build(
    bundle: Annotated[Path, typer.Option(help="Bundle, or a graph folder such as models/graphs/pick_can")],
    target: Annotated[str, typer.Option(help="rtx-portable, orin-nx or local")],
    out: Annotated[Path | None, typer.Option(help="Engine folder; default: build/engines/TARGET")] = None,
) -> None:
    """Compile the graphs for a target; says `compiled`, for nothing was run."""
    from psi0.export.engine.build import build_engine

    folder = out or Path("build/engines") / target
    record = build_engine(bundle, target, folder)
    typer.echo(
        f"{folder}: {len(record.engines)} engines for {target}, {record.backend} {record.tensorrt_version},"
        f" compute capability {record.compute_capability}, {record.precision}; status: {record.status}"
    )
