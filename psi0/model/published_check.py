"""Does our expert compute what the published one did? Recorded inputs go through ours, outputs are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from psi0.errors import Psi0Error
from psi0.model.flow import sample_actions
from psi0.model.system1 import TIME_SCALE, ActionExpert, read_tensors

LIMIT = 1e-5
"""Largest absolute difference that counts as the same function in fp32."""
_INPUTS = ("actions", "state", "vlm_features", "vlm_mask")


@dataclass(frozen=True)
class Difference:
    """One recorded tensor: its name, and the largest absolute difference to ours."""

    name: str
    largest: float

    @property
    def holds(self) -> bool:
        """Whether it is within the limit (a difference that is not a number is not)."""
        return self.largest <= LIMIT


@torch.no_grad()
def compare(expert: ActionExpert, recording: Path) -> list[Difference]:
    """Run a recording's inputs through an expert.

    Args:
        expert: with the weights that were recorded.
        recording: safetensors with `actions` `(batch, horizon, 36)` (the noise), `state`, `vlm_features`, `vlm_mask`,
            and any of `velocity_per_sample_nomask`, `velocity_per_sample_mask` (at `timestep_per_sample`),
            `velocity_per_step_nomask`, `velocity_per_step_mask` (at `timestep_per_step`), `sampled_actions` (by the
            noise levels `sigmas`). Times are noise levels times 1000.

    Raises:
        Psi0Error: the file is unreadable, lacks an input, holds nothing to compare with, or has other dimensions.
    """
    recorded = read_tensors(recording)
    missing = [name for name in _INPUTS if name not in recorded]
    if missing:
        raise Psi0Error(
            f"{recording}: {', '.join(missing)} missing; inputs and outputs of the published head are needed"
        )
    found = []
    try:
        for name, run in _outputs(expert.eval(), recorded).items():
            if name in recorded:
                found.append(Difference(name, float((run() - recorded[name]).abs().max())))
    except KeyError as error:
        raise Psi0Error(
            f"{recording}: {error.args[0]} is missing, which one of the recorded outputs was made at"
        ) from None
    except RuntimeError as error:
        raise Psi0Error(f"{recording} does not fit the weights: {error}") from None
    if not found:
        raise Psi0Error(f"{recording} holds no output to compare with")
    return found


def _outputs(expert: ActionExpert, recorded: Mapping[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    features, state, noise = recorded["vlm_features"], recorded["state"], recorded["actions"]
    mask = recorded["vlm_mask"] > 0

    def velocity(time: str, seen: Tensor | None) -> Callable[[], Tensor]:
        return lambda: expert.velocity(noise, recorded[time] / TIME_SCALE, features, seen, state)

    return {
        "velocity_per_sample_nomask": velocity("timestep_per_sample", None),
        "velocity_per_sample_mask": velocity("timestep_per_sample", mask),
        "velocity_per_step_nomask": velocity("timestep_per_step", None),
        "velocity_per_step_mask": velocity("timestep_per_step", mask),
        "sampled_actions": lambda: sample_actions(expert, noise, recorded["sigmas"], features, mask, state),
    }
