"""`psi0 train <verb>`."""

from typing import Annotated

import typer

app = typer.Typer(help="Training, before it starts.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Training, before it starts; the stages themselves run through `dvc repro`."""


@app.command("plan")
def train_plan(
    profile: Annotated[str | None, typer.Option(help="Profile to plan; without it params.yaml as it is")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs for every stage; default: each stage's ranks")] = None,
    peak_tflops: Annotated[float, typer.Option(help="Peak of one GPU [TFLOP/s]; 312 is an A100's")] = 312.0,
    utilisation: Annotated[float, typer.Option(help="Share of the peak that is reached")] = 0.4,
) -> None:
    """Print what every stage needs (parameters, memory, data, hours) beside the paper's figures."""
    from pathlib import Path

    from psi0.params import load_params
    from psi0.profiles import load_profile
    from psi0.train.plan import plan

    everything = load_params() if profile is None else load_profile(profile)
    typer.echo(f"{everything.profile}: GPUs of {peak_tflops:g} TFLOP/s, {utilisation:.0%} of it reached")
    for stage in plan(everything, gpus, peak_tflops, utilisation, Path() if profile is None else None):
        for line in stage.lines():
            typer.echo(line)
