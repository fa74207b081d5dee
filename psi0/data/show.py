"""A prepared dataset at a glance, for a terminal."""

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table

from psi0.data.dataset import LeRobotDataset
from psi0.data.quality import STILL, Channel, Quality, read_quality

SET_ASIDE_SHOWN = 20


def summary(folder: Path) -> RenderableType:
    """Tables of a dataset: what it holds, what was set aside, how far its channels move.

    Raises:
        Psi0Error: the folder is no LeRobot v3.0 dataset.
    """
    dataset = LeRobotDataset(folder)
    report = read_quality(folder) if (folder / "quality.json").exists() else None
    parts: list[RenderableType] = [_overview(dataset, report)]
    if report is not None:
        parts += [_set_aside(report)] if report.set_aside else []
        parts += [_channels(name, channels) for name, channels in report.channels.items()]
    return Group(*parts)


def show(folder: Path) -> None:
    """Print `summary`."""
    Console().print(summary(folder))


def _overview(dataset: LeRobotDataset, report: Quality | None) -> Table:
    table = Table(title=str(dataset.folder), show_header=False, title_justify="left")
    height, width, _ = dataset.image_shape
    lengths = [end - start for start, end in dataset.episodes]
    rows = {
        "episodes": f"{len(lengths)}, {min(lengths)} to {max(lengths)} frames",
        "frames": f"{len(dataset)} at {dataset.fps:g} Hz ({len(dataset) / dataset.fps / 60:.1f} minutes)",
        "images": f"{dataset.camera}, {width}x{height}",
        "instructions": "; ".join(dataset.tasks[:5])
        + (f"; and {len(dataset.tasks) - 5} more" if len(dataset.tasks) > 5 else ""),
        "fingerprint": dataset.fingerprint[:16],
    }
    if report is not None:
        gaps = sum(episode.gaps for episode in report.kept)
        rates = [episode.frame_rate for episode in report.kept]
        rows |= {
            "source": f"{report.source_format}, {'synthetic' if report.synthetic else 'real'}",
            "measured rate": f"{min(rates):.2f} to {max(rates):.2f} Hz, {gaps} gaps",
            "idle": f"{report.idle_share:.1%} of frames",
            "set aside": f"{len(report.set_aside)} ({report.bad_share:.1%} bad)",
        }
        if report.remarks:
            rows["remarks"] = "; ".join(report.remarks)
    if dataset.identity.get("redistributable") is False:
        rows["licence"] = "may not be passed on: do not push it"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _channels(feature: str, channels: list[Channel]) -> Table:
    table = Table(title=f"{feature}: how far each number moves", title_justify="left")
    for heading in ("number", "spread", "std", ""):
        table.add_column(heading, justify="right" if heading in ("spread", "std") else "left")
    for channel in channels:
        still = "never moves" if channel.spread < STILL else ""
        table.add_row(channel.name, f"{channel.spread:.4f}", f"{channel.std:.4f}", still)
    return table


def _set_aside(report: Quality) -> Table:
    table = Table(title=f"{len(report.set_aside)} episodes set aside", title_justify="left")
    table.add_column("episode")
    table.add_column("reason", overflow="fold")
    for entry in report.set_aside[:SET_ASIDE_SHOWN]:
        table.add_row(entry.name, entry.reason)
    if len(report.set_aside) > SET_ASIDE_SHOWN:
        table.add_row("...", f"{len(report.set_aside) - SET_ASIDE_SHOWN} more in quality.json")
    return table
