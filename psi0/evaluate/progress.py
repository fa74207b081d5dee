"""How far an evaluation is: bars on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from psi0.evaluate.runner import ArmRun

_LINE_EVERY_S = 15.0


class Lines:
    """One line every few seconds, and one when an arm is decided."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._told: set[str] = set()

    def update(self, arms: Sequence[ArmRun]) -> None:
        """Print what is new."""
        for arm in arms:
            if arm.decided and arm.name not in self._told:
                self._told.add(arm.name)
                print(f"{arm.name}: {arm.successes} of {len(arm.episodes)} episodes succeeded", flush=True)
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            going = [f"{arm.name} {len(arm.episodes)}/{arm.limit}" for arm in arms if not arm.decided]
            print(f"evaluating: {', '.join(going) or 'filming'}", flush=True)


class Bars:
    """One bar per arm."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._ids: dict[str, TaskID] = {}

    def update(self, arms: Sequence[ArmRun]) -> None:
        """Move the bars; a decided arm's is full."""
        for arm in arms:
            if arm.name not in self._ids:
                self._ids[arm.name] = self._bars.add_task(arm.name, total=arm.limit, successes=0)
            total = len(arm.episodes) if arm.decided else arm.limit
            self._bars.update(
                self._ids[arm.name], completed=len(arm.episodes), total=max(total, 1), successes=arm.successes
            )


@contextmanager
def progress() -> Iterator[Bars | Lines]:
    """Bars when standard error is a terminal, lines otherwise."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(),
        TextColumn("{task.completed} of at most {task.total} episodes, {task.fields[successes]} succeeded"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as bars:
        yield Bars(bars)
