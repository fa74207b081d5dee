"""What a recipe run has to tell: kept as a file for whoever watches, printed at the end."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.results import Result, last_minutes
from flows.workspace import recipe_folder
from psi0.files import read_json, write_json

BUDGET: dict[str, float] = {
    "set-up": 4.0,
    "services": 0.7,
    "recording": 4.0,
    "preparing": 1.0,
    "stages 1 and 2": 5.0,
    "fine-tuning": 8.0,
    "export and engine": 1.2,
    "evaluation": 3.0,
    "publication": 0.5,
    "overhead": 1.5,
}
"""Minutes that each part of a run at tiny scale may take on two cores."""

TITLE_MARK = "\n== "
"""How a rendered summary begins; who prints it leaves it out of the log."""

_PART = {
    "robot": "recording",
    "egodex": "recording",
    "humanoid_everyday": "recording",
    "demonstrations": "recording",
    "prepare_egodex": "preparing",
    "prepare_humanoid_everyday": "preparing",
    "prepare_demonstrations": "preparing",
    "tokenizer": "preparing",
    "pretrain": "stages 1 and 2",
    "posttrain": "stages 1 and 2",
    "finetune": "fine-tuning",
    "export": "export and engine",
    "evaluate": "evaluation",
    "gate": "evaluation",
}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StageLine(_Record):
    """One stage of the run."""

    name: str
    outcome: str
    minutes: float = Field(description="In this run; of a stage that was up to date, when it was last built")


class TaskLine(_Record):
    """What came of one task."""

    task: str
    verdict: str
    sentence: str
    successes: int = 0
    episodes: int = 0
    success_rate: float = 0.0
    low: float = 0.0
    high: float = 1.0
    version: str = ""
    aliases: list[str] = Field(default_factory=list)
    bundle: str = Field("", description="Address of the bundle, or why there is none")
    report: str = ""
    videos: str = ""


class Summary(_Record):
    """A finished recipe run."""

    schema_version: Literal[1] = 1
    name: str
    stages: list[StageLine]
    tasks: list[TaskLine]
    parts: dict[str, float] = Field(default_factory=dict, description="Part of the budget -> minutes in this run")
    minutes: float = 0.0
    leaderboard: str = Field("", description="Page that ranks every version of every task")
    mlflow: str = ""
    prefect: str = ""

    @property
    def passed(self) -> bool:
        """Whether every task passed."""
        return bool(self.tasks) and all(line.verdict == "pass" for line in self.tasks)


def stage_lines(results: dict[str, Result]) -> list[StageLine]:
    """Lines for the stages of a run."""
    known = last_minutes()
    return [
        StageLine(
            name=name,
            outcome=result.outcome,
            minutes=result.minutes if result.outcome == "built" else known.get(name, 0.0),
        )
        for name, result in results.items()
    ]


def parts_of(results: dict[str, Result]) -> dict[str, float]:
    """Minutes per part of the budget that the stages of a run took."""
    parts: dict[str, float] = {}
    for name, result in results.items():
        part = _PART.get(name.partition("@")[0], "overhead")
        parts[part] = parts.get(part, 0.0) + result.minutes
    return parts


def summary_file(run_id: str) -> Path:
    """Where the summary of a flow run is kept."""
    return recipe_folder() / "summaries" / f"{run_id}.json"


def write_summary(run_id: str, summary: Summary) -> None:
    """Keep a summary."""
    write_json(summary_file(run_id), summary.model_dump(mode="json"))


def read_summary(run_id: str) -> Summary | None:
    """The summary of a flow run, or None when it left none."""
    path = summary_file(run_id)
    return Summary.model_validate(read_json(path)) if path.exists() else None


def render(summary: Summary) -> str:
    """The summary as plain text: what was built, what it cost, how it was judged, where everything lies."""
    built = [line for line in summary.stages if line.outcome == "built"]
    rest = [line for line in summary.stages if line.outcome != "built"]
    lines = [f"{TITLE_MARK}{summary.name}: {len(built)} stages built, {len(rest)} up to date =="]
    lines += [f"  {line.name:34} {line.minutes:6.2f} min" for line in built]
    if rest:
        lines.append(f"  up to date: {', '.join(line.name for line in rest)}")
    lines += ["", f"  {'minutes':24} {'this run':>9} {'budget':>8}"]
    for part, budget in BUDGET.items():
        lines.append(f"  {part:24} {summary.parts.get(part, 0.0):9.2f} {budget:8.1f}")
    lines.append(f"  {'together':24} {sum(summary.parts.values()):9.2f} {sum(BUDGET.values()):8.1f}")
    for task in summary.tasks:
        lines += ["", *_task_text(task)]
    lines += ["", f"  Ranking  {summary.leaderboard or 'not written'}"]
    lines += [f"  MLflow   {summary.mlflow}", f"  Prefect  {summary.prefect}"]
    return "\n".join(lines)


def _task_text(line: TaskLine) -> list[str]:
    names = f" ({', '.join(line.aliases)})" if line.aliases else ""
    return [
        f"  {line.task}: {line.verdict.upper()}  {line.sentence}",
        f"    success  {line.success_rate:.0%} ({line.successes} of {line.episodes}), "
        f"interval {line.low:.0%} to {line.high:.0%}",
        f"    registry {line.version or 'none'}{names}",
        f"    bundle   {line.bundle}",
        f"    report   {line.report}",
        f"    videos   {line.videos}",
    ]
