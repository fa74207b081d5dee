"""The arms: parameter changes, each named after what is there. The first five are the rungs of the paper's Table I,
`plain_dit` is its naive baseline, `adamw` its optimiser, `cotrained` what it argues against; then come what training
time gives, and other training seeds.

An arm is judged by what its exported graphs do, once with the plan's inference delay and once with none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psi0.errors import Psi0Error
from psi0.params import Params, parse_params

Change = Mapping[str, Mapping[str, Any]]
"""Fields to replace, by block of `params.yaml`."""

_NO_PRETRAINING: Change = {"pretrain": {"steps": 0, "humanoid_everyday_steps": 0, "warmup_steps": 0}}
_EGODEX_ALONE: Change = {"pretrain": {"humanoid_everyday_steps": 0}}
_NO_POSTTRAINING: Change = {"posttrain": {"steps": 0, "warmup_steps": 0}}
_NO_RTC: Change = {"finetune": {"max_delay": 0}}
_FROZEN: Change = {"finetune": {"tune_system2": False}}
_COTRAINED: Change = {**_NO_PRETRAINING, "posttrain": {"cotrain": True}}
_PLAIN_DIT = "the recipe with a plain DiT as action expert (same width; 12 % fewer parameters at tiny scale)"


@dataclass(frozen=True)
class Arm:
    """One arm of the ladder.

    Attributes:
        name: of the arm.
        says: what it is, in words.
        change: of the parameters.
        times: its share of the budget of fine-tuning steps.
        merged: stage 2 takes the steps of stage 1 besides its own.
        gated: the registered gate judges it, too.
    """

    name: str
    says: str
    change: Change = field(default_factory=dict)
    times: float = 1.0
    merged: bool = False
    gated: bool = False


def _seeded(seed: int) -> Change:
    return {stage: {"seed": seed} for stage in ("pretrain", "posttrain", "finetune")}


_SEEDED = tuple(
    Arm(f"seed_{seed}", f"the recipe, training seed {seed}", _seeded(seed), gated=True) for seed in range(8, 12)
)
ARMS = (
    Arm("none", "no pre-training, no post-training", {**_NO_PRETRAINING, **_NO_POSTTRAINING, **_NO_RTC}),
    Arm("egodex", "+ EgoDex", {**_EGODEX_ALONE, **_NO_POSTTRAINING, **_NO_RTC}),
    Arm("humanoid_everyday", "+ Humanoid Everyday", {**_NO_POSTTRAINING, **_NO_RTC}),
    Arm("posttrain", "+ post-training", _NO_RTC),
    Arm("recipe", "+ training-time RTC: the recipe", gated=True),
    Arm("random", "the recipe, stages 1 and 2 left random", {**_NO_PRETRAINING, **_NO_POSTTRAINING}),
    Arm("delta", "the recipe, post-trained on deltas as the official code is", {"posttrain": {"action": "delta"}}),
    Arm("frozen", "the recipe, System-2 frozen in stage 3 as in the paper", _FROZEN),
    Arm("random_frozen", "the same, stages 1 and 2 left random", {**_NO_PRETRAINING, **_NO_POSTTRAINING, **_FROZEN}),
    Arm("no_key_points", "the recipe without the auxiliary loss", {"system2": {"key_points": False}}),
    Arm("no_stem", "the recipe without the convolutional stem", {"system2": {"convolutional_stem": False}}),
    Arm("guided", "the recipe, test-time RTC (guidance) in place of the clean prefix", {"system1": {"guidance": 5.0}}),
    Arm("plain_dit", _PLAIN_DIT, {"system1": {"attention": "cross"}}),
    Arm("adamw", "the recipe, fine-tuned by AdamW alone as published", {"finetune": {"optimizer": "adamw"}}),
    Arm("cotrained", "the recipe, stages 1 and 2 as one: actions and next tokens at once", _COTRAINED, merged=True),
    Arm("third", "the recipe in a third of the steps", times=1 / 3),
    Arm("two_thirds", "the recipe in two thirds of the steps", times=2 / 3),
    Arm("four_thirds", "the recipe in four thirds of the steps", times=4 / 3),
    Arm("eight_thirds", "the recipe in eight thirds of the steps", times=8 / 3),
    *_SEEDED,
)
REFERENCE = "recipe"
"""The arm that the others are compared with."""
SEEDS = (REFERENCE, *(arm.name for arm in _SEEDED))
"""The recipe under different training seeds."""


def find_arm(name: str) -> Arm:
    """An arm by name. Raises `Psi0Error` when there is none."""
    for arm in ARMS:
        if arm.name == name:
            return arm
    raise Psi0Error(f"arm {name!r} does not exist; arms: {', '.join(arm.name for arm in ARMS)}")


def arm_params(params: Params, arm: Arm, task: str, steps: int | None) -> Params:
    """The parameters of an arm for one task.

    Args:
        steps: of fine-tuning, the budget of which an arm takes its share; None takes `finetune.steps`.

    Raises:
        Psi0Error: the change does not go with `params.yaml`.
    """
    content = params.model_dump(mode="json") | {"tasks": [task]}
    budget = max(1, round(arm.times * (steps or params.finetune.steps)))
    shared: Change = {"finetune": {"steps": budget, "warmup_steps": min(budget, params.finetune.warmup_steps)}}
    merged: Change = {"posttrain": {"steps": params.pretrain.steps + params.posttrain.steps}} if arm.merged else {}
    for change in (shared, merged, arm.change):
        for block, fields in change.items():
            content[block] = content[block] | dict(fields)
    return parse_params(content, f"arm {arm.name}")
