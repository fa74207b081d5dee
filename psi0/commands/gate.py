"""`psi0 gate <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The verdict on a policy.", no_args_is_help=True)


@app.command("check")
def gate_check(task: Annotated[str, typer.Argument(help="Task whose verdict to check")]) -> None:
    """Compute the verdict again from its evidence; non-zero exit when gate.json says something else."""
    from psi0.evaluate.verbs import check_verdict
    from psi0.params import load_params

    verdict = check_verdict(load_params(), task)
    typer.echo(f"gate.json agrees with its evidence. {verdict.sentence}")


@app.command("picture")
def gate_picture(
    task: Annotated[str, typer.Argument(help="Task whose report to show")],
    out: Annotated[Path, typer.Option(help="PNG to write")] = Path("report.png"),
) -> None:
    """Write a picture of gate/TASK/report.html as a browser shows it (needs chromium)."""
    from psi0 import paths
    from psi0.evaluate.picture import take_picture
    from psi0.params import check_task

    take_picture(paths.gate(check_task(task)) / "report.html", out)
    typer.echo(f"{out}: what a browser shows of the report")


@app.command("calibrate")
def gate_calibrate(
    task: Annotated[str | None, typer.Option(help="Task whose plan to measure; all of params.yaml by default")] = None,
    runs: Annotated[int, typer.Option(min=100, help="Simulated policies per success rate")] = 10_000,
    out: Annotated[Path, typer.Option(help="Folder for TASK/calibration.json and .svg")] = Path("build/calibration"),
) -> None:
    """Measure the gate's own error rates by simulation; non-zero exit when the plan does not keep its promises."""
    from psi0.evaluate.calibrate import calibrate_task, planned_tasks
    from psi0.params import load_params

    params = load_params()
    problems = []
    for name in planned_tasks(params, task):
        result = calibrate_task(params, name, runs, out / name)
        typer.echo(f"{result.text}\n\n{out / name}/calibration.json, calibration.svg\n")
        problems += result.problems
    if problems:
        from psi0.errors import Psi0Error

        raise Psi0Error("\n".join(problems))
