"""A calibration as one drawing, an SVG that needs nothing else: promotions, episodes, and many candidates."""

import io
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import binom

from psi0.evaluate.calibration import Calibration
from psi0.evaluate.characteristics import characteristics
from psi0.evaluate.sequential import FloorTest

_INK, _RIVAL, _GOOD, _BAD = "#2456a6", "#7a8794", "#14804a", "#c0362c"
# Text stays text, and equal numbers give equal bytes.
_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "psi0", "font.family": "sans-serif", "font.size": 9}


def draw(found: Calibration, test: FloorTest) -> str:
    """The drawing of a calibration of `test`, as SVG text."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(11.5, 3.6), layout="constrained")
        promotions, episodes, candidates = figure.subplots(1, 3)
        grid = np.linspace(max(0.02, found.rates[0].success_rate - 0.05), 0.995, 90)
        exact = [characteristics(*test.boundaries(), float(rate)) for rate in grid]
        _promotions(promotions, found, grid, [one.accepted for one in exact])
        _episodes(episodes, found, grid, [one.mean_episodes for one in exact], [one.p95_episodes for one in exact])
        _candidates(candidates, found)
        for axes in (promotions, episodes, candidates):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="#e3e8ed", linewidth=0.8)
        figure.suptitle(f"{found.task}: the gate's own error rates ({found.runs:,} simulated policies per rate)")
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": "psi0 gate calibrate"})
    return drawn.getvalue()


def _promotions(axes: Axes, found: Calibration, grid: np.ndarray, exact: list[float]) -> None:
    axes.plot(grid, exact, color=_INK, label=f"{found.test} test, exact")
    axes.errorbar(
        [rate.success_rate for rate in found.rates],
        [rate.promoted for rate in found.rates],
        yerr=[rate.error for rate in found.rates],
        fmt="o",
        markersize=4,
        color=_INK,
        capsize=3,
        label="simulated",
    )
    if found.rival is not None:
        axes.plot(
            grid,
            binom.sf(found.rival.successes_needed - 1, found.rival.episodes, grid),
            color=_RIVAL,
            linestyle="--",
            label=f"fixed test of {found.rival.episodes}",
        )
    axes.plot([found.p0], [found.alpha], marker="v", markersize=9, color=_BAD, linestyle="", label="alpha at p0")
    axes.plot([found.p1], [1 - found.beta], marker="^", markersize=9, color=_GOOD, linestyle="", label="1 - beta at p1")
    axes.set(xlabel="success rate of the policy", title="promoted")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False, loc="upper left")


def _episodes(axes: Axes, found: Calibration, grid: np.ndarray, mean: list[float], most: list[int]) -> None:
    axes.plot(grid, mean, color=_INK, label="mean")
    axes.plot(grid, most, color=_INK, linewidth=1, linestyle=":", label="95th percentile")
    axes.plot([r.success_rate for r in found.rates], [r.mean_episodes for r in found.rates], "o", color=_INK, ms=4)
    axes.plot([r.success_rate for r in found.rates], [r.p95_episodes for r in found.rates], "s", color=_INK, ms=3)
    if found.rival is not None:
        axes.axhline(found.rival.episodes, color=_RIVAL, linestyle="--", label=f"fixed test: {found.rival.episodes}")
    axes.set(xlabel="success rate of the policy", title="episodes", ylim=(0, None))
    axes.legend(frameon=False, loc="upper left")


def _candidates(axes: Axes, found: Calibration) -> None:
    counts = np.arange(1, max(one.candidates for one in found.attempts) + 1)
    single = next(rate.exact for rate in found.rates if rate.success_rate == found.p0)
    axes.plot(counts, 1 - (1 - single) ** counts, color=_BAD, label="exact")
    axes.errorbar(
        [one.candidates for one in found.attempts],
        [one.promoted for one in found.attempts],
        yerr=[one.error for one in found.attempts],
        fmt="o",
        markersize=4,
        color=_BAD,
        capsize=3,
        label="simulated",
    )
    axes.set(xlabel="candidates at p0, each on its own seeds", title="at least one falsely promoted", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False, loc="upper left")
