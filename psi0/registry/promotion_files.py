"""What a promotion leaves with a version, beside its evidence: the comparison, the record, the final report."""

import tempfile
from pathlib import Path
from typing import Literal, TypeVar

from mlflow import MlflowClient
from pydantic import BaseModel, ConfigDict, Field

from psi0.errors import Psi0Error
from psi0.evaluate.schemas import read_record, write_record
from psi0.registry.comparison import COMPARISON, Comparison
from psi0.registry.tracking import explained
from psi0.registry.versions import Version

FOLDER = "promotion"
"""Folder among the artifacts of a version's run."""
RECORD = "promotion.json"
REPORT = "report.html"

Record = TypeVar("Record", bound=BaseModel)


class PromotionRecord(BaseModel):
    """`promotion.json`: how a version became champion, the last time it did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    task: str
    version: str
    how: Literal["evidence", "override"]
    by: str = Field(description="Who promoted it")
    because: str = Field(description="Why, in their words")
    at: str = Field(description="When, by the clock of the machine that did it")
    reasons: list[str] = Field(description="What the evidence lacked, where it was overridden")
    champion_before: str | None
    address: str = Field(description="s3:// address of the bundle")


def read_comparison(client: MlflowClient, version: Version) -> Comparison | None:
    """The last comparison of a version with a champion, or None. A file that is none counts as none."""
    return _read(client, version, Comparison, COMPARISON)


def read_promotion(client: MlflowClient, version: Version) -> PromotionRecord | None:
    """How a version became champion, or None when it never did. A file that is no such record counts as none."""
    return _read(client, version, PromotionRecord, RECORD)


def keep(client: MlflowClient, version: Version, record: Comparison | PromotionRecord) -> None:
    """Put a comparison or a record of promotion with its version."""
    name = COMPARISON if isinstance(record, Comparison) else RECORD
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder) / name, record)
        keep_file(client, version, Path(folder) / name)


def keep_file(client: MlflowClient, version: Version, file: Path) -> None:
    """Put a file with a version."""
    with explained(f"storing {file.name} of {version.name} {version.number}"):
        client.log_artifact(version.run_id, str(file), FOLDER)


def _read(client: MlflowClient, version: Version, kind: type[Record], name: str) -> Record | None:
    with tempfile.TemporaryDirectory() as folder, explained(f"reading {name} of {version.name} {version.number}"):
        if name not in {Path(item.path).name for item in client.list_artifacts(version.run_id, FOLDER)}:
            return None
        file = Path(client.download_artifacts(version.run_id, f"{FOLDER}/{name}", folder))
        try:
            return read_record(kind, file)
        except Psi0Error:
            return None
