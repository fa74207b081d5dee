"""How a policy is run and what its numbers mean: JSON that a policy folder and its graphs share. No torch."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from psi0.files import folder_files, sha256_file, sha256_json
from psi0.lineage import LINEAGE_FILE as LINEAGE_FILE
from psi0.model import manifest
from psi0.model.config import ModelConfig

CONFIG_FILE, LAYOUT_FILE = "config.json", "layout.json"
NORMALIZER_FILE = "normalizer.json"


class PolicyConfig(ModelConfig):
    """How a policy is run (`config.json`)."""

    task: str = Field(description="Task it was fine-tuned on")
    policy_hz: int = Field(description="Rate at which its actions are executed [Hz]")
    horizon: int = Field(description="Actions per chunk")
    execute: int = Field(description="Actions executed before the next chunk is asked for")
    euler_steps: int = Field(description="Euler steps of the sampler")
    schedule: Literal["uniform", "published"] = Field(default="uniform", description="Noise levels of the sampler")
    max_delay: int = Field(description="Clean prefixes of 0 to max_delay - 1 steps were trained; longer ones are cut")
    guidance: float = Field(
        default=0.0,
        ge=0,
        exclude_if=lambda value: value == 0,
        description="Test-time RTC in place of the clean prefix: largest guidance weight; 0, left out of the file: off",
    )
    camera_height: int = Field(description="Height of the images it was trained on [pixels]")
    camera_width: int = Field(description="Width of the images it was trained on [pixels]")


class Layout(ModelConfig):
    """What each number of an action and a state means (`layout.json`), so that the robot need not ask this code."""

    action_names: list[str] = Field(description="36 names, in order")
    state_names: list[str] = Field(description="32 names, in order")
    action_low: list[float] | None = Field(default=None, description="Smallest safe value per action number, if known")
    action_high: list[float] | None = Field(default=None, description="Largest safe value per action number, if known")

    def within_limits(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions `(n, 36)` clipped to the safe values, where those are known."""
        if self.action_low is None or self.action_high is None:
            return actions
        return np.clip(actions, np.asarray(self.action_low, np.float32), np.asarray(self.action_high, np.float32))


def policy_sha256(folder: Path) -> str:
    """Identity of a policy: the hash of its files without the lineage record, which names what it came from."""
    files = [path.as_posix() for path in folder_files(folder)]
    acting = [name for name in files if name not in (LINEAGE_FILE, manifest.FILE)]
    return sha256_json({name: sha256_file(folder / name) for name in acting})
