"""The training curve: means over windows of steps, without wall times, so that equal runs leave equal bytes."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from psi0.files import write_text

ROWS = 200
"""A curve has about this many rows, however long the training."""


class History:
    """Collects the curve of a run; `to_json` and `from_json` carry it through a checkpoint."""

    def __init__(self, steps: int) -> None:
        self._every = max(1, steps // ROWS)
        self._steps = steps
        self.rows: list[dict[str, Any]] = []
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, done: int, values: dict[str, float]) -> None:
        """Take in one step's numbers; `done` counts steps taken."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if done % self._every == 0 or done == self._steps:
            self._row(done).update({name: value / self._count for name, value in self._sums.items()})
            self._sums, self._count = {}, 0

    def validated(self, done: int, values: dict[str, float]) -> None:
        """Take in the held-out numbers after `done` steps."""
        self._row(done).update(values)

    def _row(self, done: int) -> dict[str, Any]:
        if not self.rows or self.rows[-1]["step"] != done:
            self.rows.append({"step": done})
        return self.rows[-1]

    def to_json(self) -> dict[str, Any]:
        """Rows and the window in progress."""
        return {"rows": self.rows, "sums": self._sums, "count": self._count}

    def load(self, content: dict[str, Any]) -> None:
        """Go on from what `to_json` returned."""
        self.rows, self._sums, self._count = (
            list(content["rows"]),
            dict(content["sums"]),
            int(content["count"]),
        )

    def write(self, folder: Path) -> None:
        """Write `history.jsonl`, and `history.csv` where every cell is filled with the latest value known."""
        write_text(folder / "history.jsonl", "".join(json.dumps(row, sort_keys=True) + "\n" for row in self.rows))
        names = ["step", *sorted({name for row in self.rows for name in row} - {"step"})]
        latest: dict[str, Any] = {}
        for row in reversed(self.rows):
            latest |= row
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            latest |= row
            writer.writerow(latest)
        write_text(folder / "history.csv", text.getvalue())
