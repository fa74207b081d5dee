"""`psi0 sim <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The simulated world: watch it.", no_args_is_help=True)


@app.command("tasks")
def sim_tasks() -> None:
    """List the tasks of the simulator."""
    from psi0.sim.rendering import describe_rendering
    from psi0.sim.tasks import TASKS

    for name, task in TASKS.items():
        typer.echo(f"{name}: {task.instructions[0]} (at most {task.seconds:.0f} s)")
    typer.echo(describe_rendering())


@app.command("play")
def sim_play(
    task: Annotated[str, typer.Argument(help="Task to play")] = "pick_can",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episode")] = 600000,
    policy: Annotated[
        str, typer.Option(help="demonstrator or script (`psi0 demo` plays trained policies)")
    ] = "demonstrator",
    level: Annotated[str, typer.Option(help="Randomisation level: L0, L1 or L2")] = "L0",
    out: Annotated[Path, typer.Option(help="Video to write")] = Path("episode.mp4"),
) -> None:
    """Film one episode: head camera left, third person right."""
    from psi0.params import load_params
    from psi0.sim.variation import check_level
    from psi0.sim.watch import play

    outcome = play(task, seed, policy, load_params().control, check_level(level), out)
    typer.echo(f"{out}: {outcome.tag}{f' ({outcome.detail})' if outcome.detail else ''}")


@app.command("picture")
def sim_picture(
    task: Annotated[str, typer.Argument(help="Task to show")] = "pick_can",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episode")] = 600012,
    moments: Annotated[int, typer.Option(min=1, max=8, help="Pictures side by side")] = 4,
    out: Annotated[Path, typer.Option(help="PNG to write")] = Path("picture.png"),
) -> None:
    """Draw the robot doing a task, from the side and through its head camera (docs/images/pick_can.png)."""
    from psi0.params import load_params
    from psi0.sim.watch import picture

    picture(task, seed, load_params().control, out, moments)
    typer.echo(str(out))


@app.command("sheet")
def sim_sheet(
    seed: Annotated[int, typer.Option(min=0, help="Seed of every episode shown")] = 600000,
    out: Annotated[Path, typer.Option(help="PNG to write")] = Path("tasks.png"),
) -> None:
    """Draw every task from start to success, and its looks at every level (docs/images/tasks.png)."""
    from psi0.params import load_params
    from psi0.sim.sheet import sheet

    sheet(seed, load_params().control, out)
    typer.echo(str(out))
