"""The files that evidence is made of: one evaluation file per arm, and the gate's verdict."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import read_json, write_json

SCHEMA_VERSION: Literal[1] = 1

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Verdict = Literal["pass", "refuse", "void"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Record):
    """A confidence interval of a success rate."""

    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    method: Literal["wilson", "beta_binomial_mixture"]
    confidence: float
    descriptive: bool = Field(description="True after early stopping: the stopping rule biases such an interval")


class Row(_Record):
    """One episode. `tag` names the kind of failure, or is `success`."""

    seed: Count
    success: bool
    tag: str
    steps: Count = Field(description="Control steps until the episode ended")
    qpos_sha256: str = Field(description="Over all joint positions of the episode; empty when the harness failed")
    pixels_sha256: str = Field(description="Over all images the policy saw; empty when the harness failed")


class Summary(_Record):
    """What the rows add up to."""

    episodes: Count
    successes: Count
    success_rate: float
    interval: Interval
    confidence_sequence: Interval = Field(description="Holds at any stopping time; see `psi0.evaluate.intervals`")


class Evaluation(_Record):
    """One arm of an evaluation: `rows` in seed order, exactly as the plan's test consumed them."""

    schema_version: Literal[1] = SCHEMA_VERSION
    task: str
    arm: str
    policy: str = Field(description="Name of what acted: `graphs`, `script`, `zero`, ...")
    privileged: bool = Field(description="The policy reads the simulator's state; the gate refuses such a one")
    plan_sha256: Hash
    policy_sha256: Hash
    graphs_sha256: str = Field("", description="Fingerprint of the graph folder that was judged, where there is one")
    delay_steps: Count = Field(description="Inference delay [control steps]")
    machine: dict[str, str] = Field(
        default_factory=dict, description="Renderer and CPU type of the simulator: on others the hashes may differ"
    )
    seeds: Literal["plan", "range"] = Field(description="Derived from plan and policy, or given by a person")
    summary: Summary
    rows: list[Row]
    invalid_seeds: list[Count] = Field(description="Seeds left out before the policy acted: the scene did not settle")
    repeated_seeds: list[Count] = Field(description="Episodes run a second time, to film them")
    differing_seeds: list[Count] = Field(description="Repeated episodes that did not come out the same")
    scenes: dict[str, dict[str, Any]] = Field(description="Initial poses by seed, as the world describes them")
    details: dict[str, str] = Field(description="What went wrong, by seed, where there is more to say than the tag")


class Floor(_Record):
    """The floor test and how it ended."""

    test: Literal["sequential", "fixed"]
    p0: float
    p1: float
    alpha: float
    beta: float
    n_max: Count
    decision: Literal["accept", "reject", "undecided"]
    episodes: Count
    successes: Count
    success_rate: float
    interval: Interval
    confidence_sequence: Interval = Field(description="Holds at any stopping time; see `psi0.evaluate.intervals`")


class ControlResult(_Record):
    """One control: something that must fail, and how often it did not."""

    episodes: Count
    successes: Count
    success_rate: float
    upper_bound: float = Field(description="One-sided 95 % confidence bound; early stopping is allowed for")
    ceiling: float
    holds: bool


class Parity(_Record):
    """Largest difference between the exported graphs and torch on the golden observations."""

    max_abs_error: float
    limit: float
    holds: bool


class TorchComparison(_Record):
    """The exported graphs and the torch policy they were made from, in closed loop on the same seeds."""

    episodes: Count = Field(description="Seeds that both ran")
    graphs_only: Count = Field(description="Seeds on which the graphs alone succeeded")
    torch_only: Count = Field(description="Seeds on which torch alone succeeded")
    difference: float = Field(description="Success rate of the graphs less that of torch")
    p_value: float = Field(description="Two-sided exact McNemar test of no difference")
    holds: bool = Field(description="No significant difference")


class GateFile(_Record):
    """The verdict on one policy, with everything it rests on."""

    schema_version: Literal[1] = SCHEMA_VERSION
    task: str
    verdict: Verdict
    sentence: str
    reasons: list[str] = Field(description="Why not `pass`; empty for `pass`")
    plan_sha256: Hash
    policy_sha256: str
    graphs_sha256: str
    floor: Floor | None
    controls: dict[str, ControlResult]
    parity: Parity | None
    torch: TorchComparison | None = Field(None, description="Only with `gate.compare_torch`")
    attempt: int | None = Field(
        None, ge=1, description="Which candidate of this task under this plan; counted by the registry, else unknown"
    )
    evidence: dict[str, Hash] = Field(description="SHA-256 of each file the verdict was computed from")


Record = TypeVar("Record", bound=BaseModel)


def read_record(kind: type[Record], path: Path) -> Record:
    """Read one of the files above. Raises `Psi0Error` naming the file, what is wrong in it, and the remedy."""
    content = read_json(path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise Psi0Error(
            f"{path}: schema_version {version!r} is unknown (this psi0 reads {SCHEMA_VERSION}); "
            "use the psi0 that wrote the file, or rebuild it with `dvc repro`"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise Psi0Error(f"{path}: {field}: {first['msg']}; rebuild it with `dvc repro`") from None


def write_record(path: Path, record: BaseModel) -> None:
    """Write one of the files above."""
    write_json(path, json.loads(record.model_dump_json()))
