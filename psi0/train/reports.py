"""What rank 0 tells the launcher while it trains: one JSON line per report in `reports.jsonl`."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from psi0.params import Training
from psi0.train.engine import StepResult
from psi0.train.history import History
from psi0.train.team import Team

FILE = "reports.jsonl"
SECONDS_BETWEEN = 1.0


class Reports:
    """Speed, data wait, time left and losses. Wall times live here and in no stage output."""

    def __init__(self, folder: Path, training: Training, log_every: int, team: Team) -> None:
        self._training, self._log_every, self._leads = training, log_every, team.leads
        self._file = None
        if team.leads:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / FILE).open("a", buffering=1)
        self._began = self._last = time.monotonic()
        self._first_step: int | None = None
        self._losses: list[float] = []

    def say(self, message: str) -> None:
        """Pass on a sentence for people."""
        self._write({"message": message})

    def step(self, done: int, result: StepResult, waited: float, history: History) -> None:
        """Take in a step; reports every `log_every` steps, and once a second for a progress bar."""
        now = time.monotonic()
        if self._first_step is None:
            # The first step pays for warming up; speed is counted from its end.
            self._first_step, self._began, self._waited_before = done, now, waited
        self._losses.append(result.values["loss"])
        due = done % self._log_every == 0 or done == self._training.steps
        if not due and now - self._last < SECONDS_BETWEEN:
            return
        self._last = now
        steps, elapsed = done - self._first_step, max(now - self._began, 1e-9)
        rate = steps / elapsed
        report = {
            "step": done,
            "steps": self._training.steps,
            "due": due,
            "loss": sum(self._losses) / len(self._losses),
            "gradient_norm": result.gradient_norm,
            "learning_rate": result.learning_rate,
            "samples_per_second": rate * self._training.batch,
            "data_wait_share": (waited - self._waited_before) / elapsed,
            "seconds_left": (self._training.steps - done) / rate if rate else None,
        }
        row = history.rows[-1] if history.rows else {}
        if row.get("step") == done and "validation_loss" in row:
            report["validation_loss"] = row["validation_loss"]
        if due:
            self._losses = []
        self._write(report)

    def _write(self, content: dict[str, Any]) -> None:
        if self._file is not None:
            # A full disk must not end the run here: the next checkpoint says so with a remedy.
            with suppress(OSError):
                self._file.write(json.dumps(content) + "\n")
