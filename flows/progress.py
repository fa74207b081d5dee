"""What a run shows on Prefect's page: a bar while it runs, tables when it is done."""

from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.results import Result
from flows.summary import Summary
from psi0.files import read_json


class Progress:
    """A progress bar over the stages of a run."""

    def __init__(self, stages: int) -> None:
        """`stages` is how many there are."""
        self._stages = stages
        self._artifact = create_progress_artifact(progress=0.0, key="recipe", description="stages of the recipe")

    def show(self, results: dict[str, Result]) -> None:
        """Move the bar to the share of stages that are done."""
        assert isinstance(self._artifact, UUID)
        update_progress_artifact(artifact_id=self._artifact, progress=100.0 * len(results) / max(1, self._stages))


def show_tables(summary: Summary) -> None:
    """Minutes per stage, success rates, and where the reports lie."""
    create_table_artifact(
        table=[
            {"stage": line.name, "outcome": line.outcome, "minutes": round(line.minutes, 2)} for line in summary.stages
        ],
        key="minutes-per-stage",
    )
    create_table_artifact(
        table=[
            {
                "task": line.task,
                "verdict": line.verdict,
                "success rate": round(line.success_rate, 3),
                "interval": f"{line.low:.3f} to {line.high:.3f}",
                "episodes": line.episodes,
                "version": line.version,
            }
            for line in summary.tasks
        ],
        key="success-rates",
    )
    numbers = [
        {"file": str(file), "metric": name, "value": round(value, 6)}
        for folder in ("models", "evaluation", "gate")
        for file in sorted(Path(folder).rglob("metrics.json"))
        for name, value in read_json(file).items()
        if isinstance(value, int | float)
    ]
    create_table_artifact(table=numbers, key="metrics")
    text = [f"# {summary.name}", ""]
    for line in summary.tasks:
        text += [f"## {line.task}: {line.verdict}", "", line.sentence, ""]
        version = f"{summary.mlflow}/#/models/psi0-{line.task}/versions/{line.version.rpartition(' ')[2]}"
        text += [f"- [{line.version}]({version}), whose evidence holds the report (here: `{line.report}`)"]
        text += [f"- videos: `{line.videos}`", f"- bundle: `{line.bundle}`", ""]
    text += [f"[MLflow]({summary.mlflow})"]
    create_markdown_artifact("\n".join(text), key="verdicts")
