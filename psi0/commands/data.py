"""`psi0 data <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

from psi0.errors import Psi0Error

app = typer.Typer(help="Prepared datasets.", no_args_is_help=True)


@app.command("show")
def data_show(
    dataset: Annotated[str, typer.Argument(help="Folder of a LeRobot v3.0 dataset, or DATASET#EPISODE")],
    episode: Annotated[int | None, typer.Option(min=0, help="Number of an episode, counted from 0")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Page to write for an episode; default: episode_N.html in this folder")
    ] = None,
) -> None:
    """Show a dataset in tables, or one of its episodes on a page.

    A folder alone: its episodes, rates, moving channels, and what was set aside with the reason.

    With an episode: one HTML file that needs nothing else, with the video and every joint and command over time between
    its limits (from data/robot/limits.json); and beside it a Rerun file (.rrd), where rerun-sdk is installed.

    \b
    psi0 data show data/prepared/demonstrations/pick_can
    psi0 data show data/prepared/demonstrations/pick_can#3 --out can.html
    psi0 sim play pick_can --policy replay:data/prepared/demonstrations/pick_can#3
    """
    from psi0.watch.recording import choose_episode

    folder, number = choose_episode(dataset, episode)
    if number:
        _show_episode(folder, number, out)
        return
    if out is not None:
        raise Psi0Error("--out is for the page of one episode; name it: DATASET#EPISODE or --episode N")
    from psi0.data.show import show

    show(folder)


def _show_episode(folder: Path, number: str, out: Path | None) -> None:
    from psi0.watch.episode_page import write_page
    from psi0.watch.recording import read_recording
    from psi0.watch.rerun_file import INSTALL, has_rerun, write_rerun

    recording = read_recording(folder, number)
    page = out or Path(f"episode_{recording.number}.html")
    if page.suffix != ".html":
        raise Psi0Error(f"--out {page}: the page is HTML; name it {page.with_suffix('.html')}")
    write_page(page, recording)
    typer.echo(str(page))
    if has_rerun():
        write_rerun(page.with_suffix(".rrd"), recording)
        typer.echo(str(page.with_suffix(".rrd")))
    else:
        typer.echo(f"no Rerun file: rerun-sdk is not installed ({INSTALL})")
