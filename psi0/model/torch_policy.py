"""The policy in torch: what the exported graphs are compared with, and what training evaluates in passing."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from psi0.model import euler, guidance
from psi0.model.flow import sample_actions
from psi0.model.guided_field import GuidedField
from psi0.model.planned_field import ObservedContext, PlannedField
from psi0.model.policy_folder import PolicyFolder, load_policy
from psi0.model.prefix import clean_prefix
from psi0.policy import Observation


class TorchPolicy:
    """A policy folder, played by torch on one thread of noise per episode."""

    privileged = False

    def __init__(self, policy: PolicyFolder | Path) -> None:
        """Take a policy from memory, or read and check its folder (raises `Psi0Error`)."""
        self.parts = load_policy(policy) if isinstance(policy, Path) else policy
        self.parts.system2.eval()
        self.parts.system1.eval()
        self._prompt = self.parts.system2.make_prompt(self.parts.tokenizer)
        config = self.parts.config
        self._levels = euler.schedule(config.euler_steps, config.schedule)
        self._field = None
        if config.guidance:
            self._field = GuidedField(PlannedField(self.parts.system1, torch.from_numpy(self._levels)))
        self._noise = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Start an episode; `seed` decides its noise."""
        self._noise = np.random.default_rng(seed)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next chunk `(horizon, 36)`, in physical units, row 0 belonging to `observation.step`.

        Every number lies in the normaliser's range and within the layout's limits, if it has any.
        """
        config, normalizer = self.parts.config, self.parts.normalizer
        shape = (1, config.horizon, len(normalizer.action.center))
        noise = self._noise.standard_normal(shape, dtype=np.float32)
        actions = normalizer.action.denormalize(self.normalized(observation, noise))
        return self.parts.layout.within_limits(actions)

    @torch.no_grad()
    def normalized(self, observation: Observation, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised actions `(horizon, 36)` from given noise `(1, horizon, 36)`."""
        parts, scale = self.parts, self.parts.normalizer.action
        batch = self._prompt.batch([observation.instruction], length=self._prompt.length)
        image = torch.from_numpy(np.ascontiguousarray(observation.head_camera))[None]
        seen = parts.system2.encode(image, torch.from_numpy(batch.ids), torch.from_numpy(batch.mask))
        state = torch.from_numpy(parts.normalizer.state.normalize(observation.state))[None]
        if self._field is not None:
            promised = guidance.promise(observation, parts.config.horizon, scale)
            if promised is not None:
                observed = ObservedContext(parts.system1)(state, seen.hidden, seen.mask.float())
                return self._guided(self._field, noise, promised, *observed)
            prefix = None
        else:
            prefix = clean_prefix(observation, parts.config.max_delay, scale)
        actions = sample_actions(
            parts.system1,
            torch.from_numpy(noise),
            torch.from_numpy(self._levels),
            seen.hidden,
            seen.mask,
            state,
            None if prefix is None else torch.from_numpy(prefix)[None],
        )
        return actions[0].numpy()

    def _guided(
        self, field: GuidedField, noise: NDArray[np.float32], promised: guidance.Promise, *seen: torch.Tensor
    ) -> NDArray[np.float32]:
        def at(
            actions: NDArray[np.float32], step: int, promised: guidance.Promise
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            target, weight = torch.from_numpy(promised.target), torch.from_numpy(promised.weight)
            velocity, pull = field(torch.from_numpy(actions), torch.tensor([step]), *seen, target, weight)
            return velocity.numpy(), pull.numpy()

        return guidance.sample_guided(at, noise, self._levels, promised, self.parts.config.guidance)[0]
