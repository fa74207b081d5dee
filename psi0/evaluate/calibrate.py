"""`psi0 gate calibrate`: measure a task's plan, and leave the numbers and their drawing in a folder."""

from dataclasses import dataclass
from pathlib import Path

from psi0.errors import Psi0Error
from psi0.evaluate.calibration import calibrate
from psi0.evaluate.calibration_chart import draw
from psi0.evaluate.calibration_text import describe, failures
from psi0.evaluate.schemas import write_record
from psi0.evaluate.sequential import floor_test
from psi0.files import write_text
from psi0.params import Params


@dataclass(frozen=True)
class Calibrated:
    """A calibration in words, and which promises of the plan it does not keep, with the remedy."""

    text: str
    problems: list[str]


def planned_tasks(params: Params, task: str | None) -> list[str]:
    """The tasks whose plans to measure: one, or all that have thresholds.

    Raises:
        Psi0Error: the task has no thresholds in `params.yaml`.
    """
    known = list(params.gate.thresholds)
    if task is not None and task not in known:
        raise Psi0Error(f"gate.thresholds in params.yaml has no task {task!r}; it has: {', '.join(known)}")
    return known if task is None else [task]


def calibrate_task(params: Params, task: str, runs: int, folder: Path) -> Calibrated:
    """Measure a plan and write `calibration.json` and `calibration.svg` into a folder."""
    found = calibrate(params, task, runs)
    write_record(folder / "calibration.json", found)
    write_text(folder / "calibration.svg", draw(found, floor_test(params, task)))
    problems = [
        f"{task}: {failure}; raise gate.n_max or the distance between p0 and p1, or lower what is promised"
        for failure in failures(found)
    ]
    return Calibrated(describe(found), problems)
