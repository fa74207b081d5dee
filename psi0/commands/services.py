"""`psi0 up|connect|down|status|logs`: the services on this machine."""

import os
from typing import Annotated

import typer


def up() -> None:
    """Start the local services that do not run yet, wait until each can be used, and register the deployments."""
    from flows.deploy import DEPLOYMENTS, deploy
    from infra.services.stack import up as start

    start(typer.echo)
    if deploy():
        typer.echo(f"deployments registered: {', '.join(DEPLOYMENTS)}")


def connect() -> None:
    """Tell DVC and Prefect of this checkout where the services are, without starting any.

    In a second checkout, PSI0_HOME names the .psi0 folder of the one that `psi0 up` runs in; services elsewhere are
    named by settings.
    """
    from infra.services.clients import write_client_configuration
    from psi0.connection import connect as addresses
    from psi0.settings import settings

    write_client_configuration(settings())
    found = addresses()
    typer.echo(f"S3 {found.s3_endpoint}, bucket {found.bucket}; MLflow {found.mlflow_uri}; Prefect {found.prefect_api}")


def down() -> None:
    """Stop what `psi0 up` started; state and data stay."""
    from infra.services.stack import down as stop

    stop(typer.echo)


def status() -> None:
    """Show every local service, its address and whether it answers."""
    from infra.services.stack import status as ask

    lines = ask()
    for line in lines:
        typer.echo(f"{line.name:8} {line.state:9} {line.address:28} {line.detail}")
    if not lines:
        typer.echo("nothing runs; `psi0 up` starts the services")


def logs(
    name: Annotated[str, typer.Argument(help="Service, as `psi0 status` names it")],
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines to show")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what is added")] = False,
) -> None:
    """Show the end of a service's log."""
    from infra.services.stack import log_file

    command = ["tail", "-n", str(lines), *(["-f"] if follow else []), str(log_file(name))]
    os.execvp(command[0], command)
