"""What a baseline's folder says of it (`baseline.json`). No torch: names are resolved without loading networks."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from psi0.errors import Psi0Error
from psi0.explain import did_you_mean
from psi0.model.config import ModelConfig
from psi0.model.manifest import check_manifest
from psi0.params import Baselines

Kind = Literal["act", "bc", "nearest", "nearest_rematch"]
NETWORKS: tuple[Kind, ...] = ("act", "bc")
"""Kinds whose weights are trained."""
KINDS: tuple[Kind, ...] = get_args(Kind)
CONFIG_FILE, TENSORS_FILE = "baseline.json", "baseline.safetensors"


class BaselineConfig(ModelConfig):
    """How a baseline was made and how it is run."""

    kind: Kind = Field(description="Which of the baselines it is")
    task: str = Field(description="Task it was made for")
    policy_hz: int = Field(description="Rate at which its actions are executed [Hz]")
    horizon: int = Field(description="Actions per chunk")
    camera_height: int = Field(description="Height of the images it knows [pixels]")
    camera_width: int = Field(description="Width of the images it knows [pixels]")
    stride: int = Field(ge=1, description="Frames of the demonstrations per control step")
    settings: Baselines = Field(description="The block of params.yaml, as it was")


def check_kind(name: str) -> Kind:
    """The kind of this name. Raises `Psi0Error` with the nearest name when there is none."""
    for kind in KINDS:
        if kind == name:
            return kind
    raise Psi0Error(f"baseline {name!r} does not exist; {did_you_mean(name, KINDS)}")


def baseline_sha256(folder: Path) -> str:
    """Identity of the baseline in a folder. Raises `Psi0Error` when a file is missing or was changed."""
    return str(check_manifest(folder)["policy_sha256"])
