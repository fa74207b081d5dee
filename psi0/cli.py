"""`psi0 <verb>`: thin commands over the rooms. Each imports what it needs when it runs, so `--help` stays quick."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from psi0.commands import (
    ablate,
    baseline,
    bundle,
    data,
    engine,
    export,
    gate,
    importing,
    keys,
    lineage,
    params,
    policy,
    promote,
    registry,
    services,
    sim,
    tokenizer,
    train,
)
from psi0.commands.lookup import registered
from psi0.errors import Psi0Error
from psi0.files import is_full, reason

app = typer.Typer(
    help="The Psi-Zero recipe: from demonstrations to a G1 policy with evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(params.app, name="params")
app.add_typer(data.app, name="data")
app.add_typer(gate.app, name="gate")
app.add_typer(export.app, name="export")
app.add_typer(engine.app, name="engine")
app.add_typer(registry.app, name="registry")
app.add_typer(lineage.app, name="lineage")
app.add_typer(bundle.app, name="bundle")
app.add_typer(keys.app, name="keys")
app.add_typer(sim.app, name="sim")
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(train.app, name="train")
app.add_typer(policy.app, name="policy")
app.add_typer(baseline.app, name="baseline")
app.add_typer(ablate.app, name="ablate")
app.add_typer(importing.app, name="import")
for verb in (services.up, services.connect, services.down, services.status, services.logs, promote.promote):
    app.command()(verb)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="Stage of dvc.yaml, without the @task")],
    task: Annotated[str | None, typer.Option(help="Task, for stages that run once per task")] = None,
) -> None:
    """Run one stage here and now (what dvc.yaml calls; `dvc repro` decides when)."""
    from psi0.params import load_params
    from psi0.stages import run_stage

    run_stage(name, task, load_params())


@app.command()
def evaluate(
    task: Annotated[str, typer.Argument(help="Task to run")],
    policy: Annotated[
        str,
        typer.Option(help="demonstrator, script, zero, frozen, replay:FILE, a folder, or models:/NAME@ALIAS"),
    ],
    control: Annotated[str, typer.Option(help="What is taken away: none, blind, swapped_image")] = "none",
    level: Annotated[str | None, typer.Option(help="Randomisation level: L0, L1, L2")] = None,
    seeds: Annotated[str | None, typer.Option(help="A:B, half-open; without it the registered plan is run")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes side by side")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the evaluation to this file")] = None,
    video: Annotated[Path | None, typer.Option(help="Film every episode into this folder")] = None,
) -> None:
    """Run a policy in closed loop and print how often it succeeds."""
    from psi0.evaluate.verbs import describe, evaluate_named
    from psi0.params import load_params

    result = evaluate_named(load_params(), task, policy, control, seeds, level, workers, video, json_file, registered)
    typer.echo(describe(result))


@app.command()
def demo(
    bundle: Annotated[str | None, typer.Option(help="Folder or s3:// address; default: what is deployed")] = None,
    task: Annotated[str, typer.Option(help="Task, where no bundle is named")] = "pick_can",
    channel: Annotated[str, typer.Option(help="Channel, where no bundle is named")] = "stable",
    seed: Annotated[int, typer.Option(help="Seed of the scene, from 700000 on")] = 700000,
    out: Annotated[Path, typer.Option(help="Video to write")] = Path("demo.mp4"),
) -> None:
    """Play one episode of a bundle in the simulator and write its video; no training."""
    from psi0.deploy.demo import find_bundle, play

    result = play(find_bundle(bundle, task, channel), seed, out)
    typer.echo(f"{result.tag} after {result.steps} control steps; video: {result.video} (bundle {result.bundle})")


def main() -> None:
    """Run the command line; a `Psi0Error` becomes one message and its exit code, never a traceback."""
    try:
        app()
    except Psi0Error as error:
        typer.secho(f"psi0: {error}", fg=typer.colors.RED, err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        sys.exit(141)
    except OSError as error:
        if not is_full(error):
            raise
        typer.secho(f"psi0: {reason(error)}", fg=typer.colors.RED, err=True)
        # Not sys.exit: what is left in a buffer of a full disk would be tried, and complained about, once more.
        os._exit(1)


if __name__ == "__main__":
    main()
