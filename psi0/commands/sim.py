"""`psi0 sim <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

from psi0.commands.lookup import registered
from psi0.watch.keys import KEY_HELP

app = typer.Typer(help="The simulated world: watch it.", no_args_is_help=True)


@app.command("tasks")
def sim_tasks() -> None:
    """List the tasks of the simulator."""
    from psi0.sim.rendering import describe_rendering
    from psi0.sim.tasks import TASKS

    for name, task in TASKS.items():
        typer.echo(f"{name}: {task.instructions[0]} (at most {task.seconds:.0f} s)")
    typer.echo(describe_rendering())


_PLAY_HELP = f"""Play one episode and film it: what the policy saw on the left, the robot from outside on the right.

Any policy plays as it is evaluated: trained ones with the inference delay of params.yaml.

\b
psi0 sim play pick_can --policy models/policy/pick_can --seed 7
psi0 sim play pick_can --policy replay:data/prepared/demonstrations/pick_can#3
psi0 sim play push_cart --policy demonstrator --view

With `keyboard` you drive, in this terminal (ssh will do) or in the window of --view. What was set stays set until
another key changes it:

\b
{KEY_HELP}

From a file or pipe one character is one control step, and `.` waits: `psi0 sim play --policy keyboard < keys.txt`.
In the window, letters also switch MuJoCo's own drawing.
"""


@app.command("play", help=_PLAY_HELP)
def sim_play(
    task: Annotated[str, typer.Argument(help="Task to play; `psi0 sim tasks` lists them")] = "pick_can",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episode; judging uses those from 700000 on")] = 600000,
    policy: Annotated[
        str,
        typer.Option(
            help="demonstrator, script, zero, frozen, keyboard, replay:FILE, replay:DATASET#EPISODE, the folder of a "
            "policy, of graphs or of a bundle, or models:/NAME@ALIAS"
        ),
    ] = "demonstrator",
    level: Annotated[str, typer.Option(help="Randomisation level: L0, L1 or L2")] = "L0",
    control: Annotated[str, typer.Option(help="What is taken away: none, or as in `psi0 evaluate --help`")] = "none",
    view: Annotated[bool, typer.Option("--view", help="Show it in MuJoCo's viewer too, in real time")] = False,
    out: Annotated[Path, typer.Option(help="Video to write")] = Path("episode.mp4"),
) -> None:
    """Play one episode and film it."""
    from psi0.params import load_params
    from psi0.watch.play import play

    result = play(load_params(), task, seed, policy, out, level, control, view, registered, typer.echo)
    detail = f" ({result.detail})" if result.detail else ""
    typer.echo(f"{result.video}: {result.tag} after {result.steps} control steps{detail}")


@app.command("picture")
def sim_picture(
    task: Annotated[str, typer.Argument(help="Task to show")] = "pick_can",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episode")] = 600012,
    moments: Annotated[int, typer.Option(min=1, max=8, help="Pictures side by side")] = 4,
    out: Annotated[Path, typer.Option(help="PNG to write")] = Path("picture.png"),
) -> None:
    """Draw the robot doing a task, from the side and through its head camera (docs/images/pick_can.png)."""
    from psi0.params import load_params
    from psi0.watch.pictures import picture

    picture(task, seed, load_params(), out, moments)
    typer.echo(str(out))


@app.command("sheet")
def sim_sheet(
    seed: Annotated[int, typer.Option(min=0, help="Seed of every episode shown")] = 600000,
    out: Annotated[Path, typer.Option(help="PNG to write")] = Path("tasks.png"),
) -> None:
    """Draw every task from start to success, and what a policy sees of it at every level and under every control.

    docs/images/tasks.png is such a sheet.
    """
    from psi0.params import load_params
    from psi0.watch.sheet import sheet

    sheet(seed, load_params(), out)
    typer.echo(str(out))
