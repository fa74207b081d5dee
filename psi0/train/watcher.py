"""Follows a run from the launching process: progress for people, and, as a courtesy, live metrics for MLflow."""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

POLL_SECONDS = 0.5
MLFLOW_TIMEOUT_SECONDS = 5.0
METRICS = (
    "loss",
    "validation_loss",
    "gradient_norm",
    "learning_rate",
    "samples_per_second",
    "data_wait_share",
)


class Watcher:
    """Reads the lines that the run appends to its reports and shows them until the `with` block ends."""

    def __init__(self, label: str, reports: Path) -> None:
        self._label, self._reports = label, reports
        self._position = reports.stat().st_size if reports.exists() else 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="watcher")
        self._tracking = Tracking(label.split("@")[0])
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Watcher":
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(self._label, total=None, detail="starting")
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.stop()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._read()
        self._read()

    def _read(self) -> None:
        try:
            with self._reports.open("rb") as file:
                file.seek(self._position)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            try:
                self._show(json.loads(line))
            except json.JSONDecodeError:
                continue

    def _show(self, report: dict[str, Any]) -> None:
        if "message" in report:
            self._print(f"{self._label}: {report['message']}")
            return
        speed = f"loss {report['loss']:.4f}, {report['samples_per_second']:.0f} samples/s"
        detail = f"{speed}, waiting for data {report['data_wait_share']:.0%}"
        if "validation_loss" in report:
            detail += f", held-out {report['validation_loss']:.4f}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=report["steps"], completed=report["step"], detail=detail)
        if report["due"]:
            if self._bar is None:
                left = report["seconds_left"]
                ending = "" if left is None else f", {left:.0f} s left"
                self._print(f"{self._label}: step {report['step']} of {report['steps']}, {detail}{ending}")
            self._tracking.log(report["step"], {name: report[name] for name in METRICS if name in report})

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


class Tracking:
    """Live metrics for the MLflow run named by MLFLOW_TRACKING_URI and MLFLOW_RUN_ID, if both are set.

    Speaks MLflow's REST interface directly: importing the client costs seconds. When the server does not answer,
    that is said once; training goes on, and registration fills the run from `history.jsonl` later.
    """

    def __init__(self, prefix: str) -> None:
        address = os.environ.get("MLFLOW_TRACKING_URI", "")
        self._run = os.environ.get("MLFLOW_RUN_ID", "")
        self._address = address.rstrip("/") if address.startswith(("http://", "https://")) else ""
        self._prefix, self._warned = prefix, False

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Send one step's metrics."""
        if not self._address or not self._run or self._warned:
            return
        now = int(time.time() * 1000)
        entries = [
            {"key": f"{self._prefix}/{name}", "value": value, "timestamp": now, "step": step}
            for name, value in metrics.items()
        ]
        request = urllib.request.Request(
            f"{self._address}/api/2.0/mlflow/runs/log-batch",
            json.dumps({"run_id": self._run, "metrics": entries}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request, timeout=MLFLOW_TIMEOUT_SECONDS).close()
        except (urllib.error.URLError, OSError) as error:
            self._warned = True
            print(
                f"MLflow at {self._address} does not take live metrics ({error}); training goes on without them",
                file=sys.stderr,
                flush=True,
            )
