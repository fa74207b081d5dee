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


@app.command("bench")
def policy_bench(
    folder: Annotated[Path | None, typer.Argument(help="Policy folder, e.g. models/policy/pick_can")] = None,
    profile: Annotated[str | None, typer.Option(help="Random weights of a profile's sizes instead")] = None,
    threads: Annotated[str, typer.Option(help="Numbers of CPU threads, with commas")] = "1,2",
    runtimes: Annotated[str, typer.Option(help="torch, onnxruntime, or both, with commas")] = "torch,onnxruntime",
    calls: Annotated[int, typer.Option(min=1, help="Timed calls of each part")] = 30,
) -> None:
    """Time a chunk part by part: vision, language, expert; torch and ONNX Runtime, one and two threads."""
    from psi0.export.bench import bench, subject, table

    lines = table(list(bench(subject(folder, profile), threads.split(","), runtimes.split(","), calls)))
    for line in lines:
        typer.echo(line)
