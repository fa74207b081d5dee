"""`psi0 registry <verb>`."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Versions of policies, and what speaks for them.", no_args_is_help=True)

TASK = typer.Option(help="Task of the policy; needed where policies of several tasks are registered")
VERSION = typer.Argument(help="Version number or alias; default: the champion, or the newest where there is none")
JSON = typer.Option("--json", help="Print JSON, for programs")


@app.command("list")
def registry_list(
    task: Annotated[
        str | None, typer.Argument(help="Task, or system2 or system1; by default every task, then the weights")
    ] = None,
) -> None:
    """List versions with verdict, success, attempt and aliases, newest first."""
    from psi0.registry.show import list_lines
    from psi0.registry.tracking import open_tracking

    for line in list_lines(open_tracking(), task):
        typer.echo(line)


@app.command("show")
def registry_show(
    version: Annotated[str | None, VERSION] = None,
    task: Annotated[str | None, TASK] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show a version: its verdict and what it rests on, where it came from, where its files lie."""
    from psi0.registry.show import show_lines, version_json
    from psi0.registry.tracking import open_tracking
    from psi0.registry.versions import choose_task, choose_version

    client = open_tracking()
    chosen = choose_version(client, choose_task(client, task), version)
    typer.echo(version_json(client, chosen) if as_json else "\n".join(show_lines(client, chosen)))


@app.command("diff")
def registry_diff(
    before: Annotated[str, typer.Argument(help="Version number or alias to start from")],
    after: Annotated[str, typer.Argument(help="Version number or alias to compare with it")],
    task: Annotated[str | None, TASK] = None,
) -> None:
    """Tell what changed between two versions: parameters, data, weights, code, success."""
    from rich.console import Console

    from psi0.registry.difference import compare_versions, show_difference
    from psi0.registry.tracking import open_tracking
    from psi0.registry.versions import choose_task, find_version

    client = open_tracking()
    chosen = choose_task(client, task)
    one, other = (find_version(client, chosen, each) for each in (before, after))
    Console().print(show_difference(compare_versions(client, one, other)))


@app.command("lineage")
def registry_lineage(
    version: Annotated[str | None, VERSION] = None,
    task: Annotated[str | None, TASK] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Walk from a version down to the raw episodes it was made from."""
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from psi0.registry.tracking import open_tracking
    from psi0.registry.versions import choose_task, choose_version
    from psi0.registry.walk import show_walk, walk

    client = open_tracking()
    chosen = choose_version(client, choose_task(client, task), version)
    with TemporaryDirectory() as folder:
        found = walk(client, chosen, Path(folder))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        Console().print(show_walk(found))


@app.command("audit")
def registry_audit(
    task: Annotated[str | None, typer.Argument(help="Task; all of them by default")] = None,
    reread: Annotated[
        bool, typer.Option("--reread", help="Read every byte again, also what did not change since the last audit")
    ] = False,
) -> None:
    """Check that alias, verdicts, evidence, lineage, bundles and pointer hold together; exit 1 naming each breach."""
    from psi0.registry.audit import audit
    from psi0.registry.tracking import open_tracking

    found = audit(open_tracking(), task, reread)
    for line in found.overrides:
        typer.secho(f"OVERRIDE {line}", fg=typer.colors.RED, bold=True)
    for line in found.breaches:
        typer.secho(f"BREACH {line}", fg=typer.colors.RED)
    typer.echo(found.summary)
    if found.breaches:
        raise typer.Exit(1)


@app.command("leaderboard")
def registry_leaderboard(
    task: Annotated[str | None, typer.Argument(help="Task; all of them by default")] = None,
    out: Annotated[Path | None, typer.Option(help="Write it as one HTML file")] = None,
) -> None:
    """Rank the versions of each task, from the registry as it is now."""
    from rich.console import Console

    from psi0.registry.leaderboard import rank, show_board, write_board
    from psi0.registry.tracking import open_tracking

    board = rank(open_tracking(), task)
    Console().print(show_board(board))
    if out is not None:
        typer.echo(write_board(board, out))
