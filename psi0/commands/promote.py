"""`psi0 promote`: the champion of a task, by the rule or against it."""

from typing import Annotated

import typer

from psi0.errors import Psi0Error


def promote(
    task: Annotated[str, typer.Argument(help="Task of the policy")],
    version: Annotated[str | None, typer.Argument(help="Version number or alias that becomes champion")] = None,
    because: Annotated[str, typer.Option(help="Why; kept with the version")] = "",
    override: Annotated[
        bool, typer.Option("--override", help="Promote it although its evidence does not suffice; needs --because")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Back to the champion before this one")] = False,
) -> None:
    """Make a version the champion of its task and deploy it; refused unless its evidence suffices (docs/promotion.md).

    Whatever a promotion that was cut off left behind is finished first.
    """
    from psi0.registry.promotion import promote as make_champion
    from psi0.registry.promotion import roll_back
    from psi0.registry.tracking import open_tracking

    if rollback == (version is not None):
        raise Psi0Error(f"name a version, or --rollback: `psi0 promote {task} 3` or `psi0 promote {task} --rollback`")
    client = open_tracking()

    def show(step: str) -> None:
        typer.echo(f"  {step}", err=True)

    if version is None:
        result = roll_back(client, task, because=because, override=override, step=show)
    else:
        result = make_champion(client, task, version, because=because, override=override, step=show)
    if not result.moved:
        typer.echo(f"champion of {task}: version {result.champion}, as before")
        return
    before = f" (before: {result.previous})" if result.previous else ""
    typer.echo(f"champion of {task}: version {result.champion}{before}, deployed from {result.address}")
    if result.overridden:
        typer.secho("its evidence does not suffice; the override is on record", fg=typer.colors.RED)
