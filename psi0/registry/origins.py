"""`origins.json`: where a version came from (code, weights, datasets down to the raw episodes), kept with its evidence.

The datasets themselves lie in DVC's remote and may be forgotten there, or may not be passed on; this record stays. What
the version's tags say about its origin is what this file says, so that an audit notices who edits a tag.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.data.quality import SetAside, read_quality
from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_json
from psi0.registry.lock_graph import RAW, LockedStage, prepared

FILE = "origins.json"
SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(_Record):
    """A prepared dataset: what is in it, what was left out, and where it came from."""

    path: str
    fingerprint: str = Field(description="DVC's hash of the prepared dataset")
    episodes: int
    frames: int
    frame_rate: float = Field(description="[Hz]")
    names_sha256: str = Field(description="Over the names of the raw episodes that are in it, in order")
    set_aside: list[SetAside] = Field(description="Raw episodes that are not in it, and why")
    source: str = Field(description="`recorder`, a folder or an s3:// prefix")
    source_format: str
    source_fingerprint: str = Field(description="Over the raw files")
    synthetic: bool
    redistributable: bool


class WeightsOrigin(_Record):
    """A version of registered weights, and what they were then."""

    version: str
    sha256: str


class Origins(_Record):
    """Where a version came from."""

    schema_version: Literal[1] = 1
    git_commit: str
    git_dirty: bool
    attempt: int = Field(description="Which candidate of its task it was under its plan")
    weights: dict[str, WeightsOrigin] = Field(description="Registered model -> version that it was made from")
    datasets: dict[str, Origin] = Field(description="Prepared datasets by short name")

    def tags(self) -> dict[str, str]:
        """What the tags of the version say about it."""
        tags = {
            "git_commit": self.git_commit,
            "git_dirty": str(self.git_dirty).lower(),
            "attempt": str(self.attempt),
        }
        for name, weights in self.weights.items():
            tags |= {name: weights.version, f"{name}.weights_sha256": weights.sha256}
        return tags


def describe_datasets(stages: list[LockedStage], workspace: Path) -> dict[str, Origin]:
    """Describe the datasets of a chain of stages from their reports in the workspace.

    A dataset that is not in the workspace (its models were pulled, its data was not) is left out.
    """
    found = {}
    for name, output in prepared(stages).items():
        folder = workspace / output.path
        if not (folder / "quality.json").exists():
            continue
        quality, identity = read_quality(folder), read_json(folder / "meta" / "psi0.json")
        found[name] = Origin(
            path=output.path,
            fingerprint=output.md5,
            episodes=len(quality.kept),
            frames=quality.frames,
            frame_rate=quality.frame_rate,
            names_sha256=sha256_json([episode.name for episode in quality.kept]),
            set_aside=quality.set_aside,
            source=raw_source(stages, name),
            source_format=quality.source_format,
            source_fingerprint=str(identity.get("source_fingerprint", "")),
            synthetic=quality.synthetic,
            redistributable=bool(identity.get("redistributable", True)),
        )
    return found


def read_origins(file: Path) -> Origins:
    """Read `origins.json`. Raises `Psi0Error` naming the file and what is wrong in it."""
    content = read_json(file)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise Psi0Error(
            f"{file}: schema_version {version!r} is unknown (this psi0 reads {SCHEMA_VERSION}); "
            "use the psi0 that registered the version"
        )
    try:
        return Origins.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Psi0Error(f"{file}: {field}: {first['msg']}; register the version anew") from None


def raw_source(stages: list[LockedStage], dataset: str) -> str:
    """The `source` that the raw stage of a dataset was pinned with, or `unknown`."""
    for stage in stages:
        if any(output.path.removeprefix(RAW).partition("/")[0] == dataset for output in stage.outputs):
            return str(stage.params.get(stage.base, {}).get("source", "unknown"))
    return "unknown"
