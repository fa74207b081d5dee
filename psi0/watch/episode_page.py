"""One recorded episode on a page: its video, and every number over time between its limits, in one file."""

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from psi0.evaluate.svg import ACCENT, BAD, INK, LINE, QUIET, Point, curve, line, svg, text
from psi0.evaluate.video import encode_mp4, fit
from psi0.files import write_text
from psi0.watch.recording import Recording, Track

TEMPLATE = "episode.html.j2"
_VIDEO_WIDTH = 512
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 300.0, 150.0, 42.0, 24.0, 18.0
_SMALLEST_SPAN = 0.1
"""A number that hardly moves is not blown up to fill its chart [rad, m, ...]."""


def write_page(file: Path, recording: Recording) -> None:
    """Write the page. It asks for nothing else: no script, style, picture or letter comes from elsewhere."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    charts, index = {}, 0
    for group, tracks in recording.groups.items():
        charts[group] = [
            Markup(track_chart(f"track{index + offset}", track, recording.times)) for offset, track in enumerate(tracks)
        ]
        index += len(tracks)
    beyond = {track.name: track.beyond for tracks in recording.groups.values() for track in tracks if track.beyond}
    page = environment.get_template(TEMPLATE).render(
        recording=recording, charts=charts, beyond=beyond, video=_video(recording), seconds=float(recording.times[-1])
    )
    write_text(file, page)


def _video(recording: Recording) -> str:
    """The pictures as a `data:` address, enlarged so that every browser shows them sharp."""
    height, width = recording.images.shape[1:3]
    scale = max(1, _VIDEO_WIDTH // width)
    shape = (height * scale + 1) // 2 * 2, (width * scale + 1) // 2 * 2
    film = encode_mp4((fit(image, *shape) for image in recording.images), round(recording.fps))
    return f"data:video/mp4;base64,{base64.b64encode(film).decode()}"


def track_chart(name: str, track: Track, times: NDArray[np.float64]) -> str:
    """A number over time as SVG: commanded solid, measured dashed, limits in red.

    Args:
        name: unique on the page.
        times: `(frames,)` [s].
    """
    given = [values for values in (track.commanded, track.measured) if values is not None]
    finite = np.concatenate(given)
    finite = finite[np.isfinite(finite)]
    low, high = _scale(finite, track.limits)
    width, height, last = _WIDTH - _LEFT - 8, _HEIGHT - _TOP - _BOTTOM, float(times[-1]) or 1.0

    def at(time: float, value: float) -> Point:
        return _LEFT + width * time / last, _TOP + height * (high - value) / (high - low)

    color = BAD if track.beyond else INK
    parts = [text((4, 14), track.name.removesuffix("_joint").replace("_", " "), color=color, bold=True)]
    parts.append(text((_WIDTH - 8, 14), track.unit, "end", size=11))
    for value in (low, (low + high) / 2, high):
        x, y = at(0, value)
        parts += [line((x, y), (x + width, y), LINE), text((x - 5, y + 4), f"{value:.2f}", "end", size=10)]
    for limit in track.limits or ():
        parts.append(line(at(0, limit), at(last, limit), BAD, 1.5, dash="5 4"))
    for values, drawn, dash in ((track.measured, ACCENT, "4 2"), (track.commanded, INK, "")):
        if values is not None:
            parts += [curve(points, drawn, 1.6, dash) for points in _pieces(times, values, at)]
    parts.append(text((_LEFT, _HEIGHT - 4), "0 s", size=10))
    parts.append(text((_WIDTH - 8, _HEIGHT - 4), f"{last:.1f} s", "end", size=10))
    parts.append(f'<g class="now" data-width="{width:.1f}">{line((_LEFT, _TOP), (_LEFT, _TOP + height), QUIET, 1)}</g>')
    return svg(name, _WIDTH, _HEIGHT, track.name, _spoken(track, finite), parts)


def _scale(values: NDArray[np.float64], limits: tuple[float, float] | None) -> tuple[float, float]:
    """From where to where a chart goes: over all values and both limits."""
    every = [*values.tolist(), *(limits or ())] or [0.0]
    low, high = min(every), max(every)
    missing = max(0.0, _SMALLEST_SPAN - (high - low)) / 2
    return low - missing, high + missing


def _pieces(
    times: NDArray[np.float64], values: NDArray[np.float64], at: Callable[[float, float], Point]
) -> list[list[Point]]:
    """Runs of rows that have a value, as points."""
    there = np.flatnonzero(np.isfinite(values))
    runs = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1) if len(there) else []
    return [[at(float(times[row]), float(values[row])) for row in run] for run in runs]


def _spoken(track: Track, values: NDArray[np.float64]) -> str:
    if not len(values):
        return "No row has a value."
    limits = f", limits {track.limits[0]:.2f} to {track.limits[1]:.2f}" if track.limits else ""
    beyond = f", beyond them in {track.beyond} frames" if track.beyond else ""
    return f"From {values.min():.2f} to {values.max():.2f} {track.unit}{limits}{beyond}."
