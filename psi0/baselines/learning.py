"""How ACT and behaviour cloning learn: the samples, order, augmentation and optimiser of stage 3, another objective."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from psi0.baselines.act import ActionChunkingTransformer
from psi0.baselines.config import BaselineConfig
from psi0.baselines.folder import Baseline, save_baseline
from psi0.baselines.networks import Network, make_network
from psi0.lineage import Lineage
from psi0.model.linear import use_bfloat16_products
from psi0.model.policy_config import Layout
from psi0.params import Finetune
from psi0.train.chunks import ChunkSamples
from psi0.train.engine import Batch, Engine
from psi0.train.optimizer import parameter_groups
from psi0.train.precision import BFLOAT16_LINEAR
from psi0.train.recipe import Phase, Recipe
from psi0.train.state_probe import state_only_error

CLOSING_SAMPLES = 128
"""Held-out samples whose whole chunks are compared at the end, the same as after fine-tuning."""
_PROBED = 4096


class RegressionObjective(nn.Module):
    """Mean absolute error of the chunk; for ACT in training, plus the KL divergence of the style from a Gaussian.

    In evaluation mode the style is the prior's mean: held-out numbers are those of the policy as it acts.
    """

    def __init__(self, network: Network, kl_weight: float) -> None:
        super().__init__()
        self.network, self.kl_weight = network, kl_weight

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss`, `per_sample`, `l1_loss`, and `kl_divergence` [nats] where there is a style."""
        network, state, actions = self.network, batch["state"], batch["actions"]
        divergence: Tensor | None = None
        if isinstance(network, ActionChunkingTransformer) and self.training:
            mean, log_variance = network.style(state, actions)
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
            found = network(batch["images"], state, mean + noise * (0.5 * log_variance).exp())
        else:
            found = network(batch["images"], state)
        mask = batch["action_mask"].expand_as(found)
        error = ((found - actions).abs() * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2))
        per_sample = error if divergence is None else error + self.kl_weight * divergence
        answer = {"loss": per_sample.mean(), "per_sample": per_sample, "l1_loss": error.mean()}
        return answer if divergence is None else answer | {"kl_divergence": divergence.mean()}


class BaselineRecipe(Recipe):
    """The recipe of a network, from samples whose normaliser is fitted."""

    stage = "finetune"

    def __init__(self, config: BaselineConfig, training: Finetune, samples: ChunkSamples, layout: Layout) -> None:
        self.training, self.state_noise = training, training.state_noise
        self.samples, self._config, self._layout = samples, config, layout
        self.phases = [Phase(0, samples)]
        self.network = make_network(config, training.seed)
        self.objective = RegressionObjective(self.network, config.settings.kl_weight)
        if training.precision == BFLOAT16_LINEAR:
            use_bfloat16_products(self.objective)

    def groups(self) -> list[dict[str, Any]]:
        """All parameters."""
        return parameter_groups(self.objective, self.training)

    def trivial(self) -> dict[str, float]:
        """Held-out errors without the image, normalised units, as `Recipe.trivial` and `FlowRecipe.trivial` say."""
        return trivial_errors(self.samples, self.training.seed)

    @torch.no_grad()
    def closing(self, engine: Engine) -> dict[str, float]:
        """`action_error`: root mean square error of chunks for held-out observations, normalised units."""
        rows = closing_rows(self.samples, self.training.seed)
        batch = self.samples.batch(rows, None)
        self.objective.eval()
        device = next(self.network.parameters()).device
        found = self.network(batch["images"].to(device), batch["state"].to(device)).cpu()
        return {"action_error": action_error(found.numpy(), batch["actions"].numpy(), self.samples.action_mask)}

    def write_result(self, folder: Any, origin: Lineage) -> None:
        """The baseline's folder."""
        assert self.samples.normalizer is not None
        weights = {name: value.detach().cpu() for name, value in self.network.state_dict().items()}
        save_baseline(folder, Baseline(self._config, weights, self.samples.normalizer, self._layout, origin))


def closing_rows(samples: ChunkSamples, seed: int) -> NDArray[np.int64]:
    """The held-out rows that whole chunks are compared on: those of the closing numbers of stage 3."""
    return np.random.default_rng([seed, 6]).permutation(samples.held_out)[:CLOSING_SAMPLES]


def action_error(found: NDArray[np.float32], true: NDArray[np.float32], mask: NDArray[np.float32]) -> float:
    """Root mean square difference of normalised chunks `(n, horizon, 36)` where `mask` `(36,)` counts."""
    squared = ((found - true) ** 2 * mask).sum()
    return float(np.sqrt(squared / np.broadcast_to(mask, found.shape).sum()))


def trivial_errors(samples: ChunkSamples, seed: int) -> dict[str, float]:
    """Held-out errors of predictors that do not look, normalised units.

    `trivial_loss`: mean absolute error of the median chunk. `mean_action_error`: root mean square error of the mean
    chunk. `state_only_error`: the same error of a predictor that sees the state alone.
    """
    assert samples.normalizer is not None
    source = np.random.default_rng([seed, 5])
    known_rows, unseen_rows = (source.permutation(rows)[:_PROBED] for rows in (samples.training, samples.held_out))
    counts = samples.action_mask > 0
    known, unseen = (
        samples.normalizer.action.normalize(samples.chunks(rows))[..., counts].reshape(len(rows), -1)
        for rows in (known_rows, unseen_rows)
    )
    return {
        "trivial_loss": float(np.abs(unseen - np.median(known, axis=0)).mean()),
        "mean_action_error": float(np.sqrt(((unseen - known.mean(axis=0)) ** 2).mean())),
        "state_only_error": state_only_error(samples.states(known_rows), known, samples.states(unseen_rows), unseen),
    }
