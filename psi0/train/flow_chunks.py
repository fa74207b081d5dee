"""Stages 2 and 3: System-1 learns action chunks by flow matching, with System-2 frozen or learning along."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from psi0 import params
from psi0.data.dataset import LeRobotDataset
from psi0.files import write_json
from psi0.lineage import Lineage, fingerprint_code
from psi0.model.euler import schedule
from psi0.model.flow import flow_loss, sample_actions
from psi0.model.linear import use_bfloat16_products
from psi0.model.low_rank import add_low_rank, merge_low_rank
from psi0.model.manifest import write_manifest
from psi0.model.policy_folder import PolicyConfig, PolicyFolder, save_policy
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2, System2Output
from psi0.model.tokenizer_folder import Tokenizers
from psi0.robot.layout import ActionPart
from psi0.settings import settings
from psi0.train import sampler
from psi0.train.chunks import ChunkSamples
from psi0.train.engine import Batch, Engine
from psi0.train.feature_cache import load_or_build
from psi0.train.optimizer import parameter_groups
from psi0.train.precision import BFLOAT16_LINEAR
from psi0.train.recipe import Phase, Recipe
from psi0.train.state_probe import state_only_error

POSTTRAIN_HALF_RANGE = {"absolute": 0.02, "delta": 0.001}
"""Smallest half range a joint is normalised by in stage 2 [rad]."""
KEY_POINT_BEND = 0.3
"""Error of a standardised key point from which on the loss grows with it, no longer with its square."""
CLOSING_SAMPLES = 128
"""Held-out samples on which whole chunks are sampled at the end."""


class FlowObjective(nn.Module):
    """Flow-matching loss of the expert on System-2's hidden states, plus the key-point loss."""

    def __init__(
        self,
        system2: System2,
        system1: ActionExpert,
        max_delay: int,
        key_point_loss: float,
        frozen: bool,
        foreign_velocity: float = 0.0,
    ) -> None:
        super().__init__()
        self.system2, self.system1 = system2, system1
        self.max_delay, self.key_point_loss, self.frozen = max_delay, key_point_loss, frozen
        self.foreign_velocity = foreign_velocity

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss`, `per_sample`, `flow_loss`, and `key_point_loss` (Huber, standardised) where there are key points."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            seen = self.see(batch)
        flow = flow_loss(
            self.system1,
            batch["actions"],
            seen.hidden,
            seen.mask,
            batch["state"],
            action_mask=batch["action_mask"],
            max_delay=self.max_delay,
            promised=self.promised(batch["actions"], generator),
            generator=generator,
        )
        answer = {"loss": flow.loss, "per_sample": flow.per_sample, "flow_loss": flow.loss}
        if seen.key_points is not None and "key_points" in batch:
            # Few moments, of a robot far astray, are far from the mean; squared they would be most of the loss.
            points = functional.smooth_l1_loss(seen.key_points, batch["key_points"], beta=KEY_POINT_BEND)
            answer["loss"] = flow.loss + self.key_point_loss * points
            answer["key_point_loss"] = points
        return answer

    def promised(self, actions: Tensor, generator: torch.Generator) -> Tensor | None:
        """What clean prefixes hold: some samples the walking velocity of another one, where that is asked for.

        Who shows a task hardly ever stands where it should walk, so going on as before predicts its velocity better
        than any picture, and a policy that learned this stands still wherever it stood once (copycat problem; de Haan
        et al., Causal Confusion in Imitation Learning, arXiv 1905.11979).
        """
        if not self.foreign_velocity:
            return None
        foreign = torch.rand(len(actions), 1, 1, generator=generator, device=actions.device) < self.foreign_velocity
        mixed = actions.clone()
        velocity = mixed[..., ActionPart.VELOCITY]
        mixed[..., ActionPart.VELOCITY] = torch.where(foreign, velocity.roll(1, 0), velocity)
        return mixed

    def see(self, batch: Batch) -> System2Output:
        """System-2's answer to a batch, whose hidden states may be known already."""
        if "hidden" in batch:
            return self.system2.with_key_points(batch["hidden"], batch["text_mask"])
        return self.system2.encode(batch["images"], batch["text_ids"], batch["text_mask"])


class FlowRecipe(Recipe):
    """What stages 2 and 3 share; subclasses build the parts."""

    dataset: str
    samples: ChunkSamples
    system1: ActionExpert
    system2: System2
    objective: FlowObjective
    euler_steps: int

    def prepare(self, engine: Engine, origin: Lineage, say: Callable[[str], None]) -> None:
        """Compute what a frozen System-2 sees of every frame, where `cache_features` asks for it."""
        assert isinstance(self.training, params.ChunkTraining)
        if not self.training.cache_features:
            return
        device, config = engine.team.device, self.system2.config
        made_from = {name: origin.data[name] for name in ("system2", "tokenizer", self.dataset)} | {
            "code": fingerprint_code("model", "data"),
            "arithmetic": f"{self.training.precision} on {device.type}, torch {torch.__version__}",
        }

        @torch.no_grad()
        def encode(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            images, text_ids = self.samples.hidden_inputs(rows)
            with engine.arithmetic():
                return self.system2.hidden(images.to(device), text_ids.to(device)).float().cpu().numpy()

        self.objective.eval()
        shape = (len(self.samples.dataset), self.samples.prompt_length, config.hidden_size)
        limit = settings().feature_cache_gib
        home = settings().home / "features"
        self.samples.features = load_or_build(home, made_from, shape, encode, engine.team, say, limit)

    def trivial(self) -> dict[str, float]:
        """Held-out losses of predictors that know training actions but not the image.

        `trivial_loss`: the flow loss of the best predictor that knows mean and variance of every number of a chunk
        (for a Gaussian of standard deviation s and a uniform noise level it is s * pi / 2).
        `mean_action_error`: root mean square error of the mean chunk, normalised units.
        `state_only_error`: the same error of a predictor that sees the state, neither image nor instruction.
        """
        states, known = self._normal_chunks(self.samples.training)
        unseen_states, unseen = self._normal_chunks(self.samples.held_out)
        squared = ((unseen - known.mean(axis=0)) ** 2).mean(axis=0)
        return {
            "trivial_loss": float(np.sqrt(squared).mean() * math.pi / 2),
            "mean_action_error": float(np.sqrt(squared.mean())),
            "state_only_error": state_only_error(states, known, unseen_states, unseen),
        }

    def _normal_chunks(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """States `(n, 32)` and the numbers that count of their chunks `(n, numbers)`, both normalised."""
        assert self.samples.normalizer is not None
        chosen = np.random.default_rng([self.training.seed, 5]).permutation(rows)[:4096]
        chunks = self.samples.normalizer.action.normalize(self.samples.chunks(chosen))
        return self.samples.states(chosen), chunks[..., self.samples.action_mask > 0].reshape(len(chosen), -1)

    @torch.no_grad()
    def closing(self, engine: Engine) -> dict[str, float]:
        """`action_error`: root mean square error of chunks sampled for held-out observations, normalised units."""
        rows = np.random.default_rng([self.training.seed, 6]).permutation(self.samples.held_out)[:CLOSING_SAMPLES]
        device = next(self.system1.parameters()).device
        batch = {name: value.to(device) for name, value in self.samples.batch(rows, None).items()}
        self.objective.eval()
        seen = self.objective.see(batch)
        source = torch.Generator().manual_seed(sampler.noise_seed(self.training.seed, 0, 0, 7))
        noise = torch.randn(batch["actions"].shape, generator=source).to(device)
        levels = torch.tensor(schedule(self.euler_steps), dtype=torch.float32, device=device)
        found = sample_actions(self.system1, noise, levels, seen.hidden, seen.mask, batch["state"])
        squared = ((found - batch["actions"]) * batch["action_mask"]).square().sum()
        return {"action_error": float((squared / batch["action_mask"].expand_as(found).sum()).sqrt())}


class Posttraining(FlowRecipe):
    """The recipe of stage 2: the expert learns on Humanoid Everyday, System-2 frozen."""

    stage = "posttrain"
    dataset = "humanoid_everyday"

    def __init__(self, everything: params.Params, system2: Path, humanoid_everyday: Path, tokenizer: Path) -> None:
        own = everything.posttrain
        self.training, self.euler_steps = own, everything.system1.euler_steps
        self.system2 = System2.load(system2)
        self.system2.requires_grad_(False)
        self.system1 = ActionExpert.create(
            everything.system1,
            horizon=own.chunk,
            context_size=self.system2.config.hidden_size,
            seed=own.seed,
        )
        prompt = self.system2.make_prompt(Tokenizers.load(tokenizer).text)
        dataset = LeRobotDataset(humanoid_everyday)
        control = everything.control.model_copy(update={"chunk": own.chunk})
        self.samples = ChunkSamples("humanoid_everyday", dataset, own, control, prompt, meaning=own.action)
        self.samples.normalizer = self.samples.fit_quantiles(POSTTRAIN_HALF_RANGE[own.action])
        self.phases = [Phase(0, self.samples)]
        self.objective = FlowObjective(self.system2, self.system1, max_delay=0, key_point_loss=0.0, frozen=True)
        if own.precision == BFLOAT16_LINEAR:
            use_bfloat16_products(self.objective)
        self.system1.checkpointing = own.gradient_checkpointing

    def groups(self) -> list[dict[str, Any]]:
        """The expert alone."""
        return parameter_groups(self.objective, self.training)

    def write_result(self, folder: Path, origin: Lineage) -> None:
        """System-1's weights and sizes, and the scales of its actions."""
        assert self.samples.normalizer is not None
        self.system1.save(folder)
        write_json(folder / "normalizer.json", self.samples.normalizer.to_json())
        write_manifest(folder)


class Finetuning(FlowRecipe):
    """The recipe of stage 3: one task from its demonstrations, with training-time real-time chunking."""

    stage = "finetune"
    dataset = "demonstrations"

    def __init__(
        self,
        everything: params.Params,
        task: str,
        system2: Path,
        system1: Path,
        demonstrations: Path,
        tokenizer: Path,
    ) -> None:
        own = everything.finetune
        self.training, self.state_noise = own, own.state_noise
        self._everything, self._task, self._tokenizer = everything, task, tokenizer
        self._tokenizers = Tokenizers.load(tokenizer)
        self.system2 = System2.load(system2)
        dataset = LeRobotDataset(demonstrations)
        self.samples = ChunkSamples(
            f"demonstrations of {task}",
            dataset,
            own,
            everything.control,
            self.system2.make_prompt(self._tokenizers.text),
        )
        self.samples.normalizer = self.samples.fit_bounds(own.minimum_range)
        self.phases = [Phase(0, self.samples)]
        points = self.samples.key_points
        wanted = points is not None and everything.system2.key_points and own.key_point_loss > 0
        self.system2.set_key_points(points.shape[1] // 5 if points is not None and wanted else 0, own.seed)
        self.system2.requires_grad_(own.tune_system2)
        for parameter in self.system2.parameter_groups()["key_points"]:
            parameter.requires_grad_(True)
        self.system1 = load_expert(system1, everything, self.system2.config.hidden_size, own.seed)
        self.euler_steps = everything.system1.euler_steps
        nothing_learns = not any(value.requires_grad for value in self.system2.parameters())
        self.objective = FlowObjective(
            self.system2,
            self.system1,
            own.max_delay,
            own.key_point_loss,
            frozen=nothing_learns,
            foreign_velocity=own.foreign_velocity,
        )
        if own.precision == BFLOAT16_LINEAR:
            use_bfloat16_products(self.objective)
        if own.lora_rank:
            add_low_rank(self.system2, own.lora_rank, own.lora_alpha, own.seed)
        if own.gradient_checkpointing:
            self.system1.checkpointing = True
            if own.tune_system2:
                self.system2.use_gradient_checkpointing()

    def groups(self) -> list[dict[str, Any]]:
        """The expert, the key-point head, and System-2 or its low-rank updates where `tune_system2` says so."""
        return parameter_groups(self.objective, self.training)

    def write_result(self, folder: Path, origin: Lineage) -> None:
        """The policy folder."""
        everything, own = self._everything, self._everything.finetune
        merge_low_rank(self.system2)
        assert self.samples.normalizer is not None
        height, width = self.samples.dataset.image_shape[:2]
        config = PolicyConfig(
            schema_version=1,
            task=self._task,
            policy_hz=everything.control.policy_hz,
            horizon=everything.control.chunk,
            execute=everything.control.execute,
            euler_steps=self.euler_steps,
            schedule="uniform",
            max_delay=own.max_delay,
            guidance=everything.system1.guidance,
            camera_height=height,
            camera_width=width,
        )
        parts = PolicyFolder(config, self.system2, self.system1, self.samples.normalizer, self._tokenizers.text, origin)
        save_policy(folder, parts, self._tokenizer)


def load_expert(folder: Path, everything: params.Params, context_size: int, seed: int) -> ActionExpert:
    """The expert of stage 2; as published, only its blocks where the chunk has another length, and all else anew."""
    known = ActionExpert.load(folder)
    horizon = everything.control.chunk
    if (known.config.horizon, known.config.context_size) == (horizon, context_size):
        return known
    sizes = params.System1.model_validate(
        everything.system1.model_dump()
        | {name: getattr(known.config, name) for name in ("hidden_size", "blocks", "heads", "attention")}
    )
    fresh = ActionExpert.create(sizes, horizon=horizon, context_size=context_size, seed=seed)
    fresh.blocks.load_state_dict(known.blocks.state_dict())
    return fresh
