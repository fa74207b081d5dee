"""SVG as text: the few shapes that the report's charts are made of."""

from collections.abc import Sequence
from html import escape

GOOD, BAD, QUIET, LINE, ACCENT, INK = "#14804a", "#c0362c", "#5b6875", "#d5dbe1", "#2456a6", "#1c2733"

Point = tuple[float, float]


def svg(name: str, width: float, height: float, title: str, spoken: str, parts: Sequence[str]) -> str:
    """A drawing with an accessible name and description.

    Args:
        name: unique on the page; the ids of title and description begin with it.
        title: what it shows.
        spoken: what it says, in words: the description that a screen reader reads.
    """
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(spoken)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def line(start: Point, end: Point, color: str, width: float = 1, opacity: float = 1, dash: str = "") -> str:
    """A straight line."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{color}" '
        f'stroke-width="{width}" opacity="{opacity}" stroke-linecap="round"{dashed}/>'
    )


def text(at: Point, words: str, anchor: str = "start", size: int = 12, color: str = QUIET, bold: bool = False) -> str:
    """One line of text; `at` is its baseline."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" font-size="{size}"{weight} '
        f'fill="{color}">{escape(words)}</text>'
    )


def curve(points: Sequence[Point], color: str, width: float = 2, dash: str = "") -> str:
    """A line through points."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{_join(points)}" fill="none" stroke="{color}" stroke-width="{width}" '
        f'stroke-linejoin="round"{dashed}/>'
    )


def area(points: Sequence[Point], color: str, opacity: float = 0.12) -> str:
    """A filled polygon."""
    return f'<polygon points="{_join(points)}" fill="{color}" opacity="{opacity}"/>'


def disc(at: Point, radius: float, color: str, hint: str = "", opacity: float = 1, rim: bool = False) -> str:
    """A filled circle; `hint` shows up under the pointer."""
    edge = ' stroke="#fff" stroke-width="1.5"' if rim else ""
    return (
        f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}" fill="{color}" opacity="{opacity}"{edge}>'
        f"{_hint(hint)}</circle>"
    )


def cross(at: Point, radius: float, color: str, hint: str = "") -> str:
    """Two strokes across each other; `hint` shows up under the pointer."""
    path = f"M{at[0] - radius:.1f} {at[1] - radius:.1f} l{2 * radius} {2 * radius} m0 -{2 * radius} l-{2 * radius} "
    return (
        f'<path d="{path}{2 * radius}" stroke="{color}" stroke-width="3.5" stroke-linecap="round" fill="none">'
        f"{_hint(hint)}</path>"
    )


def pointer(at: Point, color: str) -> str:
    """A small triangle that points down at a place."""
    return f'<path d="M{at[0]:.1f} {at[1]:.1f} l5 -8 h-10 z" fill="{color}"/>'


def ticks(most: float) -> list[int]:
    """Round numbers from 0 to `most`, eight steps at most."""
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if most / step <= 8), 10_000)
    return list(range(0, int(most) + 1, step))


def _hint(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def _join(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
