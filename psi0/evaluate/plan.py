"""The registered plan: what is run and how it is judged, fixed by a hash before the first episode.

Evaluation seeds follow from the hash of the plan and the hash of the policy, so nobody can train until fixed seeds
pass: another policy meets other scenes.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from psi0 import seeds
from psi0.errors import Psi0Error
from psi0.files import sha256_folder, sha256_json
from psi0.lineage import fingerprint_code
from psi0.params import Params
from psi0.paths import ROBOT

TRAINING_SEEDS_END, EVALUATION_SEEDS_START = seeds.TRAINING_SEEDS_END, seeds.EVALUATION_SEEDS_START
PLAN_FILE = "plan.json"
_EVALUATION_SEEDS_END = 1_000_000_000
_SETTINGS_OF_THE_RUN = ("workers", "videos")


class Plan(BaseModel):
    """Everything that decides which episodes are run and what is made of them, for one task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    task: str
    evaluation: dict[str, object] = Field(
        description="The block of params.yaml, without what changes no result, and how many of a kind the scenes show"
    )
    gate: dict[str, object] = Field(description="The block of params.yaml, thresholds of this task only")
    control: dict[str, object]
    camera: dict[str, object]
    world_sha256: str = Field(
        description="Fingerprint of the robot and of the sources of simulator and robot, success predicates among them"
    )

    @property
    def sha256(self) -> str:
        """The plan's hash, which goes into every result."""
        return sha256_json(self.model_dump(mode="json"))


def register(params: Params, task: str) -> Plan:
    """The plan that `params.yaml` registers for a task, with the simulator as it is now."""
    return Plan(task=task, world_sha256=_world_sha256(), **planned_blocks(params, task))


def planned_blocks(params: Params, task: str) -> dict[str, dict[str, object]]:
    """What `params.yaml` contributes to the plan of a task, by the plan's field."""
    evaluation, gate = params.evaluation.model_dump(mode="json"), params.gate.model_dump(mode="json")
    kept = {name: value for name, value in evaluation.items() if name not in _SETTINGS_OF_THE_RUN}
    return {
        "evaluation": {**kept, "objects": params.objects(task)},
        "gate": {**gate, "thresholds": {task: gate["thresholds"][task]}},
        "control": params.control.model_dump(mode="json"),
        "camera": params.camera.model_dump(mode="json"),
    }


def _world_sha256() -> str:
    robot = sha256_folder(ROBOT) if ROBOT.exists() else ""
    return sha256_json({"code": fingerprint_code("sim", "robot"), "robot": robot})


def delay_steps(params: Params) -> int:
    """Inference delay in control steps: the whole steps that pass until the new chunk can be executed."""
    return math.ceil(params.evaluation.inference_delay_ms * params.control.policy_hz / 1000)


def derived_seeds(plan_sha256: str, policy_sha256: str) -> Iterator[int]:
    """The endless, repetition-free series of evaluation seeds of one policy under one plan."""
    seen: set[int] = set()
    counter = 0
    while True:
        digest = hashlib.sha256(f"{plan_sha256}:{policy_sha256}:{counter}".encode()).digest()
        span = _EVALUATION_SEEDS_END - EVALUATION_SEEDS_START
        seed = EVALUATION_SEEDS_START + int.from_bytes(digest[:8], "big") % span
        counter += 1
        if seed not in seen:
            seen.add(seed)
            yield seed


def seed_range(text: str) -> range:
    """Read `A:B`, half-open, as evaluation seeds given by a person.

    Raises:
        Psi0Error: not of that form, empty, or touching seeds below 700000.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if match is None:
        raise Psi0Error(f"--seeds {text!r}: write A:B, half-open, for example 700000:700020")
    first, end = int(match[1]), int(match[2])
    if end <= first:
        raise Psi0Error(f"--seeds {text}: the range is empty; B must be larger than A")
    if first < TRAINING_SEEDS_END:
        raise Psi0Error(
            f"--seeds {text}: seeds below {TRAINING_SEEDS_END} are for training; evaluate from "
            f"{EVALUATION_SEEDS_START} up"
        )
    if first < EVALUATION_SEEDS_START:
        raise Psi0Error(f"--seeds {text}: evaluation seeds start at {EVALUATION_SEEDS_START}")
    if end > _EVALUATION_SEEDS_END:
        raise Psi0Error(f"--seeds {text}: evaluation seeds end at {_EVALUATION_SEEDS_END}")
    return range(first, end)
