"""`psi0 bundle <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Deployment bundles: whole and signed by a trusted key, or refused.", no_args_is_help=True)
Channel = Annotated[str, typer.Option(help="Channel of the task")]


@app.command("verify")
def bundle_verify(address: Annotated[str, typer.Argument(help="Folder or s3:// address of a bundle")]) -> None:
    """Check every byte of a bundle and its signature; non-zero exit for anything changed, missing or extra."""
    from psi0.deploy.verify import verify

    found = verify(address)
    typer.echo(f"{address} is whole: {found.files} files, {found.bytes / 1e6:.1f} MB, signature: {found.signature}")
    typer.echo(f"name {found.name}")


@app.command("pull")
def bundle_pull(
    bundle: Annotated[str, typer.Argument(help="Task, or s3:// address of a bundle", metavar="TASK_OR_ADDRESS")],
    channel: Channel = "stable",
    out: Annotated[Path | None, typer.Option(help="Folder that becomes the bundle; default: the cache")] = None,
) -> None:
    """Fetch a bundle and verify it; nothing appears unless it is whole. Goes on where it was interrupted."""
    from psi0.deploy.pull import pull

    typer.echo(pull(bundle, out, channel, lambda line: typer.echo(line, err=True)))


@app.command("rehearse")
def bundle_rehearse(
    folder: Annotated[Path, typer.Argument(help="Folder of a pulled bundle")],
    seconds: Annotated[float, typer.Option(help="Length of the episode [s]")] = 20.0,
    threads: Annotated[int, typer.Option(help="CPU threads of ONNX Runtime")] = 1,
) -> None:
    """Verify a bundle and play an episode's worth of chunks on noise: does it run here, and in time?"""
    from psi0.deploy.rehearse import rehearse

    done = rehearse(folder, seconds, threads)
    verdict = "in time" if done.in_time else "too slow on this processor"
    typer.echo(
        f"{done.chunks} chunks: p50 {done.p50_ms:.1f} ms, p99 {done.p99_ms:.1f} ms; judged with a delay of "
        f"{done.judged_ms:.0f} ms: {verdict}"
    )


@app.command("history")
def bundle_history(
    task: Annotated[str, typer.Argument(help="Task")],
    channel: Channel = "stable",
) -> None:
    """Where a channel pointed and when, the newest first."""
    from psi0.deploy.publish import pointer_history
    from psi0.errors import Psi0Error
    from psi0.params import check_task

    states = pointer_history(check_task(task), channel)
    if not states:
        raise Psi0Error(f"nothing was published on channel {channel!r} of {task} yet")
    for number, state in enumerate(states):
        if state.pointer is not None:
            what = f"version {state.pointer.version:4} {state.pointer.address}"
        else:
            what = "deleted" if state.deleted else "not a pointer"
        typer.echo(f"{state.written_at}  {what}{'  (now)' if number == 0 else ''}")


@app.command("point")
def bundle_point(
    address: Annotated[str, typer.Argument(help="s3:// address of a published bundle")],
    channel: Annotated[str, typer.Option(help="Channel to move, other than stable")],
) -> None:
    """Move a channel of your own (say `canary`) to a bundle. `stable` follows the champion: `psi0 promote`."""
    from psi0.deploy.listing import read_listing
    from psi0.deploy.publish import CHANNEL, point
    from psi0.deploy.verify import verify
    from psi0.errors import Psi0Error

    if channel == CHANNEL:
        raise Psi0Error(f"channel {CHANNEL!r} follows the champion; `psi0 promote TASK VERSION` moves it")
    verify(address)
    found = read_listing(address).manifest
    pointer = point(address, found.task, found.source.model, found.source.version, channel)
    typer.echo(f"channel {channel} of {pointer.task}: version {pointer.version} at {pointer.address}")
