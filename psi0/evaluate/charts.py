"""The report's charts, as inline SVG: no script, no request, a title and a description for screen readers.

They are drawn 420 units wide, so that their letters can be read on a phone. Colours never stand alone: successes are
filled discs, failures are crosses, and what breaks its limit says so.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psi0.evaluate.sequential import Step
from psi0.evaluate.svg import (
    ACCENT,
    BAD,
    GOOD,
    INK,
    LINE,
    QUIET,
    Point,
    area,
    cross,
    curve,
    disc,
    line,
    pointer,
    svg,
    text,
    ticks,
)

WIDTH = 420.0


@dataclass(frozen=True)
class Bar:
    """One line of the success chart: a rate with its interval, and the limit it is held against, if any.

    Attributes:
        anytime: a second interval, valid whenever the test stops.
        holds: keeps its limit; None where there is none.
    """

    label: str
    count: str
    rate: float
    low: float
    high: float
    limit: float | None = None
    limit_name: str = ""
    holds: bool | None = None
    anytime: tuple[float, float] | None = None


@dataclass(frozen=True)
class Band:
    """The success rate after a number of episodes, with its interval."""

    episodes: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Pose:
    """Where an object and the robot stood when an episode began [m, rad], and how it ended."""

    seed: int
    x: float
    y: float
    robot_x: float
    robot_y: float
    robot_yaw: float
    success: bool
    tag: str


def success_chart(bars: Sequence[Bar]) -> str:
    """Rates from 0 to 100 % with intervals; a triangle marks each limit."""
    left, width, row, top = 10.0, WIDTH - 24, 62.0, 4.0
    bottom = top + row * len(bars)

    def at(rate: float) -> float:
        return left + width * rate

    parts = []
    for index, bar in enumerate(bars):
        y = top + row * index + 16
        parts += [line((at(t / 4), y + 10), (at(t / 4), y + 36), LINE) for t in range(5)]
        color = ACCENT if bar.holds is None else GOOD if bar.holds else BAD
        parts.append(text((left, y), f"{bar.label}: {bar.rate:.0%}", color=INK, size=13, bold=True))
        words = f"{bar.count}{', ' if bar.limit_name else ''}{bar.limit_name}"
        parts.append(text((left + width, y), words, "end", color=BAD if bar.holds is False else QUIET))
        y += 22
        parts.append(line((at(bar.low), y), (at(bar.high), y), color, 7, 0.35))
        if bar.anytime is not None:
            parts.append(line((at(bar.anytime[0]), y + 11), (at(bar.anytime[1]), y + 11), color, 2, 0.7))
        parts.append(disc((at(bar.rate), y), 7, color))
        if bar.limit is not None:
            parts += [pointer((at(bar.limit), y - 6), INK), line((at(bar.limit), y - 7), (at(bar.limit), y + 9), INK)]
    for tick in range(5):
        anchor = {0: "start", 4: "end"}.get(tick, "middle")
        parts.append(text((at(tick / 4), bottom + 16), f"{25 * tick} %", anchor))
    spoken = "; ".join(_spoken(bar) for bar in bars) or "Nothing was evaluated."
    return svg("success", WIDTH, bottom + 24, "Success rates with their intervals", spoken, parts)


def path_chart(path: Sequence[Step], accept_at: Iterable[int], reject_at: Iterable[int], decision: str) -> str:
    """The floor test's path: failures over episodes, between the bounds that decide."""
    accept = [n + 1 - count for n, count in enumerate(accept_at)]
    reject = [n + 1 - count for n, count in enumerate(reject_at)]
    shown = min(len(accept), max(20, math.ceil(len(path) * 1.25)))
    failures = [0, *(step.episodes - step.successes for step in path)]
    reachable = [count for n, count in enumerate(reject[:shown]) if count <= n + 1]
    most = max([4, failures[-1] + 1, *(count + 1 for count in reachable)])
    left, top, width, height = 30.0, 10.0, WIDTH - 44, 240.0

    def at(episodes: float, count: float) -> Point:
        return left + width * episodes / shown, top + height * (1 - count / most)

    parts = []
    for tick in ticks(most):
        x, y = at(0, tick)
        parts += [line((x, y), (x + width, y), LINE), text((x - 8, y + 4), str(tick), "end")]
    for tick in ticks(shown):
        x, y = at(tick, 0)
        parts += [line((x, y), (x, y + 5), QUIET), text((x, y + 19), str(tick), "middle")]
    for n in range(shown):
        if accept[n] >= 0:
            parts.append(area([at(n + 0.5, 0), at(n + 0.5, accept[n]), at(n + 1.5, accept[n]), at(n + 1.5, 0)], GOOD))
        if reject[n] <= n + 1:
            edge = min(reject[n], most)
            parts.append(area([at(n + 0.5, most), at(n + 0.5, edge), at(n + 1.5, edge), at(n + 1.5, most)], BAD))
    points = [at(n, count) for n, count in enumerate(failures)]
    parts.append(curve(points, INK, 2.5))
    parts.append(disc(points[-1], 7, {"accept": GOOD, "reject": BAD}.get(decision, QUIET), rim=True))
    parts.append(text(at(shown * 0.03, most * 0.93), "too many: refused", color=BAD, bold=True))
    if any(count >= 0 for count in accept[:shown]):
        x, y = at(shown, 0)
        parts.append(text((x - 4, y - 6), "few enough: accepted", "end", color=GOOD, bold=True))
    parts.append(
        text((left + width / 2, top + height + 38), "failures over episodes, in the order of their seeds", "middle")
    )
    words = {"accept": "accepted", "reject": "refused"}.get(decision, "undecided")
    spoken = f"After {len(path)} episodes with {failures[-1]} failures: {words}." if path else "No episodes."
    return svg("path", WIDTH, top + height + 48, "Path of the floor test between its bounds", spoken, parts)


def sequence_chart(bands: Sequence[Band], floor: float) -> str:
    """The success rate episode by episode inside its confidence sequence, and the rate that it must exceed."""
    left, top, width, height = 40.0, 10.0, WIDTH - 54, 150.0
    last = bands[-1].episodes

    def at(episodes: float, rate: float) -> Point:
        return left + width * episodes / last, top + height * (1 - rate)

    parts = []
    for tick in range(5):
        x, y = at(0, tick / 4)
        parts += [line((x, y), (x + width, y), LINE), text((x - 6, y + 4), f"{25 * tick} %", "end", size=11)]
    for tick in ticks(last):
        x, y = at(tick, 0)
        parts += [line((x, y), (x, y + 5), QUIET), text((x, y + 19), str(tick), "middle")]
    upper = [at(band.episodes, band.high) for band in bands]
    lower = [at(band.episodes, band.low) for band in bands]
    parts.append(area([*upper, *reversed(lower)], ACCENT, 0.2))
    parts.append(curve([at(band.episodes, band.rate) for band in bands], INK, 2))
    parts.append(line(at(0, floor), at(last, floor), BAD, 1.5, dash="5 4"))
    x, y = at(last, floor)
    parts.append(text((x - 2, y + 14), f"must be above {floor:.0%}", "end", color=BAD))
    caption = "success rate over episodes, with its confidence sequence"
    parts.append(text((left + width / 2, top + height + 36), caption, "middle"))
    spoken = f"After {last} episodes {bands[-1].rate:.0%}, between {bands[-1].low:.0%} and {bands[-1].high:.0%}."
    return svg("sequence", WIDTH, top + height + 44, "Success rate with its confidence sequence", spoken, parts)


def pose_map(poses: Sequence[Pose], object_name: str) -> str:
    """Seen from above: where the object stood, marked by outcome, and where the robot started (an arrow)."""
    if not poses:
        return ""
    margin, left, top = 0.06, 42.0, 8.0
    xs = [value for pose in poses for value in (pose.x, pose.robot_x)]
    ys = [value for pose in poses for value in (pose.y, pose.robot_y)]
    low_x, high_x, low_y, high_y = min(xs) - margin, max(xs) + margin, min(ys) - margin, max(ys) + margin
    width = WIDTH - left - 10
    scale = min(width / (high_y - low_y), 420 / (high_x - low_x))
    offset, height = (width - scale * (high_y - low_y)) / 2, scale * (high_x - low_x)

    def at(x: float, y: float) -> Point:
        # Up is ahead of the robot (x), left is its left (y).
        return left + offset + scale * (high_y - y), top + scale * (high_x - x)

    parts = []
    for tick in _quarters(low_y, high_y):
        x, _ = at(0, tick)
        parts += [
            line((x, top), (x, top + height), LINE),
            text((x, top + height + 16), f"{tick:+.2f}", "middle", size=11),
        ]
    for tick in _quarters(low_x, high_x):
        _, y = at(tick, 0)
        parts += [line((left, y), (left + width, y), LINE), text((left - 4, y + 4), f"{tick:+.2f}", "end", size=11)]
    # Failures last, so that none is covered.
    for pose in sorted(poses, key=lambda pose: not pose.success):
        color, hint = GOOD if pose.success else BAD, f"seed {pose.seed}: {pose.tag}"
        robot, thing = at(pose.robot_x, pose.robot_y), at(pose.x, pose.y)
        nose = (robot[0] - 14 * math.sin(pose.robot_yaw), robot[1] - 14 * math.cos(pose.robot_yaw))
        if not pose.success:
            parts.append(line(robot, thing, color, 1, 0.5, dash="3 3"))
        parts += [line(robot, nose, color, 2, 0.7), disc(robot, 3, color, opacity=0.7)]
        parts.append(disc(thing, 6, color, hint, rim=True) if pose.success else cross(thing, 6, color, hint))
    failed = [pose for pose in poses if not pose.success]
    spoken = f"{len(poses)} initial scenes seen from above; {len(poses) - len(failed)} succeeded, {len(failed)} failed."
    spoken += "".join(
        f" Failed: seed {pose.seed}, {object_name} at x {pose.x:.2f}, y {pose.y:.2f}: {pose.tag}." for pose in failed
    )
    caption = f"metres; marks: {object_name}, arrows: robot"
    parts.append(text((left + width / 2, top + height + 36), caption, "middle"))
    return svg("map", WIDTH, top + height + 44, "Initial poses by outcome", spoken, parts)


def curve_chart(name: str, series: Sequence[tuple[str, Sequence[Point]]], title: str) -> str:
    """A small chart of up to two curves over steps, on a logarithmic scale where all values are positive.

    Args:
        name: unique on the page.
        series: name and `(step, value)` of each curve; the second one is dashed.
        title: what the curves are.
    """
    values = [value for _, points in series for _, value in points]
    if len(values) < 2:
        return ""
    logarithmic = min(values) > 0
    last = max(step for _, points in series for step, _ in points) or 1

    def scaled(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low, high = scaled(min(values)), scaled(max(values))
    span = (high - low) or 1.0
    left, top, width, height = 50.0, 26.0, 260.0, 130.0
    parts = []
    for share in (0.0, 0.5, 1.0):
        value, y = low + span * share, top + height * (1 - share)
        label = f"{10**value if logarithmic else value:.3g}"
        parts += [line((left, y), (left + width, y), LINE), text((left - 6, y + 4), label, "end")]
    legend = left
    for color, dash, (label, points) in zip((INK, ACCENT), ("", "5 3"), series, strict=False):
        place = [
            (left + width * step / last, top + height * (1 - (scaled(value) - low) / span)) for step, value in points
        ]
        parts.append(curve(place, color, 2, dash))
        parts += [curve([(legend, 11), (legend + 22, 11)], color, 2, dash), text((legend + 28, 15), label, color=color)]
        legend += 120
    parts.append(text((left + width, top + height + 17), f"step {last:.0f}", "end"))
    spoken = "; ".join(f"{label}: from {points[0][1]:.3g} to {points[-1][1]:.3g}" for label, points in series if points)
    return svg(name, left + width + 10, top + height + 26, title, spoken, parts)


def _spoken(bar: Bar) -> str:
    limit = f", {bar.limit_name}: {'holds' if bar.holds else 'fails'}" if bar.limit_name else ""
    anytime = f", anytime-valid {bar.anytime[0]:.0%} to {bar.anytime[1]:.0%}" if bar.anytime else ""
    return f"{bar.label} {bar.rate:.0%} ({bar.count}), interval {bar.low:.0%} to {bar.high:.0%}{anytime}{limit}"


def _quarters(low: float, high: float) -> list[float]:
    """Multiples of 25 cm within a range."""
    return [0.25 * n for n in range(math.ceil(low * 4), math.floor(high * 4) + 1)]
