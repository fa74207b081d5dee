"""A loss or gradient that is not finite ends the run, with the step and the samples that caused it."""

import math
from collections.abc import Sequence

import torch


def all_finite(*values: float) -> bool:
    """Whether every number is finite."""
    return all(math.isfinite(value) for value in values)


def poisoned(batch: dict[str, torch.Tensor], per_sample: torch.Tensor) -> list[int]:
    """Positions in the batch whose inputs or whose own loss are not finite."""
    bad = ~torch.isfinite(per_sample.detach().float().cpu())
    for values in batch.values():
        if values.is_floating_point() and len(values) and len(values) % len(bad) == 0:
            bad |= ~torch.isfinite(values.cpu().reshape(len(bad), -1)).all(dim=1)
    return torch.nonzero(bad).flatten().tolist()


def describe(step: int, loss: float, gradient_norm: float, names: Sequence[str], suspects: Sequence[int]) -> str:
    """The message of a run that diverged; `suspects` are positions in `names`, all of them if empty."""
    what = "loss" if not math.isfinite(loss) else "gradient"
    blamed = [names[position] for position in suspects] or list(names)
    kind = "samples" if suspects else "no single sample is to blame; the batch was"
    return (
        f"{what} is not finite at step {step} (loss {loss}, gradient norm {gradient_norm}); {kind}: "
        f"{', '.join(blamed[:16])}{' ...' if len(blamed) > 16 else ''}."
        " Check these episodes in quality.json, or lower learning_rate; the last checkpoint is intact"
    )
