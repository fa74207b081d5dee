"""The loss on held-out episodes: the same samples and the same noise every time, shared out over the ranks."""

import numpy as np
import torch

from psi0.train import sampler
from psi0.train.engine import Engine
from psi0.train.recipe import Recipe, Samples
from psi0.train.team import Team

SAMPLES = 192
"""Held-out samples per dataset; fewer where there are fewer."""


def validate(recipe: Recipe, engine: Engine, team: Team) -> dict[str, float]:
    """`validation_<name>` for every number of the objective, the mean over the datasets of all phases. Collective.

    Where there are several datasets, `validation_loss_<dataset>` too.
    """
    with engine.averaged():
        found = {phase.samples.name: _one(phase.samples, recipe, engine, team) for phase in recipe.phases}
    names = {name for values in found.values() for name in values}
    answer = {
        f"validation_{name}": float(np.mean([values[name] for values in found.values() if name in values]))
        for name in sorted(names)
    }
    if len(found) > 1:
        answer |= {f"validation_loss_{dataset}": values["loss"] for dataset, values in found.items()}
    return answer


def _one(samples: Samples, recipe: Recipe, engine: Engine, team: Team) -> dict[str, float]:
    training = recipe.training
    rows = np.random.default_rng([training.seed, 7]).permutation(samples.held_out)[:SAMPLES]
    size = max(1, training.batch // (team.ranks * training.accumulation))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    # All ranks take equally many turns (ZeRO 3 gathers weights in each); a rank without a part repeats one, uncounted.
    sums: dict[str, torch.Tensor] = {}
    count = torch.zeros(1, dtype=torch.float64)
    for turn in range(-(-len(parts) // team.ranks)):
        number = turn * team.ranks + team.rank
        part = parts[min(number, len(parts) - 1)]
        seed = sampler.noise_seed(training.seed, 0, min(number, len(parts) - 1), 8)
        generator = torch.Generator(device=team.device).manual_seed(seed)
        answer = engine.evaluate(samples.batch(part, None), generator)
        weight = len(part) if number < len(parts) else 0
        count += weight
        for name, value in answer.items():
            if value.ndim == 0:
                sums[name] = sums.get(name, torch.zeros(1, dtype=torch.float64)) + float(value) * weight
    totals = team.total(torch.cat([*sums.values(), count]).to(team.device)).cpu()
    return {name: float(total / totals[-1]) for name, total in zip(sums, totals[:-1], strict=True)}
