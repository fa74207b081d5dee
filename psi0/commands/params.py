"""`psi0 params <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="What is made: params.yaml and its profiles.", no_args_is_help=True)


@app.command("show")
def params_show() -> None:
    """Print params.yaml as validated, defaults filled in."""
    import yaml

    from psi0.params import load_params

    typer.echo(yaml.safe_dump(load_params().model_dump(mode="json"), sort_keys=False).rstrip())


@app.command("check")
def params_check(file: Annotated[Path, typer.Argument(help="File to check")] = Path("params.yaml")) -> None:
    """Validate a parameter file; every wrong field is named."""
    from psi0.params import load_params

    params = load_params(file)
    typer.echo(f"{file} is valid: profile {params.profile}, tasks {', '.join(params.tasks)}")


@app.command("use")
def params_use(
    profile: Annotated[str, typer.Argument(help="Profile: tiny, or a file of params/ (smoke, paper)")],
    force: Annotated[bool, typer.Option("--force", help="Drop values of params.yaml that no profile has")] = False,
) -> None:
    """Put a profile in place as params.yaml (refused while params.yaml holds values that no profile has)."""
    from psi0.profiles import use_profile

    typer.echo(use_profile(profile, force))
