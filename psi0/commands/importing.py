"""`psi0 import <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Weights of other codes as ours.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Weights of other codes as ours."""


@app.command("official-expert")
def import_official_expert(
    file: Annotated[Path, typer.Argument(help="The published action head's safetensors file")],
    config: Annotated[Path, typer.Option(help="JSON with its constructor arguments (or those under `config`)")],
    out: Annotated[Path | None, typer.Option(help="Folder to write the expert into")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Recorded inputs and outputs (safetensors): exit 1 where ours differ")
    ] = None,
) -> None:
    """Read the published action expert; with --check show that ours computes the same, within 1e-5."""
    from psi0.errors import Psi0Error
    from psi0.files import publish_folder
    from psi0.model.published import published_parameters, read_published, save_imported
    from psi0.model.published_check import LIMIT, compare
    from psi0.model.system1 import CONFIG

    if out is None and check is None:
        raise Psi0Error("nothing to do: --out DIR writes the expert, --check FILE compares it")
    if out is not None and out.exists() and not (out / CONFIG).is_file():
        raise Psi0Error(f"{out} exists and holds no imported expert; it stays as it is, give another --out")
    published = read_published(file, config)
    typer.echo(f"{published_parameters(published.expert.config):,} parameters, counted as the publication does")
    if check is not None:
        differences = compare(published.expert, check)
        for one in differences:
            typer.echo(f"{one.name:28} largest absolute difference {one.largest:.2e}")
        wrong = [one.name for one in differences if not one.holds]
        if wrong:
            raise Psi0Error(f"{', '.join(wrong)}: more than {LIMIT:g} apart; these weights are not the recorded ones")
    if out is not None:
        with publish_folder(out) as folder:
            save_imported(folder, published)
        typer.echo(f"written: {out}")
