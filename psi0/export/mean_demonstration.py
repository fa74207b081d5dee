"""The mean of all demonstrations as graphs: a policy that the gate must refuse, played like any other.

It looks at no image. Where it is in the demonstration it knows from the actions that it promised last (the clean
prefix of its chunk), and before the first promise from the robot's state; from there it goes on as the demonstrations
do on average. Its graphs have the names, inputs and outputs of a trained policy's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.export.graphs import Graph
from psi0.export.parity import make_golden
from psi0.export.runtime import SYSTEM2_FILE
from psi0.export.stage import copy_settings, write_graphs
from psi0.files import publish_folder, read_json, sha256_json, write_json
from psi0.lineage import lineage
from psi0.model import euler
from psi0.model.config import System2Config, read_config, write_config
from psi0.model.normalizer import Normalizer
from psi0.model.policy_config import (
    CONFIG_FILE,
    LAYOUT_FILE,
    LINEAGE_FILE,
    NORMALIZER_FILE,
    Layout,
    PolicyConfig,
)
from psi0.model.prefix import clean_prefix
from psi0.params import Params
from psi0.policy import Observation
from psi0.robot.limits import Limits, load_limits


@dataclass(frozen=True)
class MeanDemonstration:
    """States `(steps, 32)` and actions `(steps, 36)` in physical units."""

    states: NDArray[np.float32]
    actions: NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """Identity of the policy that replays it."""
        return sha256_json({"mean_demonstration": [self.states.tolist(), self.actions.tolist()]})


def export_mean_demonstration(params: Params, task: str, graph_folder: Path | None = None) -> MeanDemonstration:
    """Write the mean demonstration of a task as graphs, with the settings of the task's trained policy.

    Args:
        graph_folder: where to; None replaces `models/graphs/<task>`.

    Raises:
        Psi0Error: the demonstrations or the policy are missing.
    """
    policy, demonstrations = paths.policy(task), paths.prepared_demonstrations(task)
    if not (policy / CONFIG_FILE).exists():
        raise Psi0Error(f"{policy} holds no policy whose settings could be taken over; run `dvc repro finetune@{task}`")
    limits = load_limits(paths.ROBOT)
    mean = mean_demonstration(LeRobotDataset(demonstrations), limits)
    # It has no network to take a pull back through, and goes on from a clean prefix instead.
    config = read_config(policy / CONFIG_FILE, PolicyConfig).model_copy(update={"guidance": 0.0})
    scales = Normalizer.from_json(read_json(policy / NORMALIZER_FILE), str(policy / NORMALIZER_FILE))
    sizes = read_config(policy / SYSTEM2_FILE, System2Config)
    levels = euler.schedule(config.euler_steps, config.schedule)
    step = MeanStep(mean, scales, config.horizon, levels)

    @torch.no_grad()
    def answer(seen: Observation, noise: NDArray[np.float32]) -> Any:
        prefix = clean_prefix(seen, config.max_delay, scales.action)
        state = torch.from_numpy(scales.state.normalize(seen.state))[None]

        def velocity(actions: NDArray[np.float32], index: int, late: NDArray[np.float32]) -> NDArray[np.float32]:
            now = torch.from_numpy(actions), torch.tensor([index]), torch.from_numpy(late)
            return step(*now, state[:, None], torch.zeros(1, 1, 1, 1)).numpy()

        return euler.sample(velocity, noise, levels, prefix)[0]

    with publish_folder(graph_folder or paths.graphs(task)) as folder:
        copy_settings(policy, folder, read_config(policy / LAYOUT_FILE, Layout), limits)
        write_config(folder / CONFIG_FILE, config)
        origin = lineage(params, demonstrations=demonstrations)
        write_json(folder / LINEAGE_FILE, origin.model_dump(mode="json"))
        golden = make_golden(config, scales, answer)
        write_graphs(folder, _graphs(step, sizes, config.horizon), golden, mean.sha256, params.export)
    return mean


def mean_demonstration(dataset: LeRobotDataset, limits: Limits) -> MeanDemonstration:
    """The mean over a dataset's episodes, each stretched to their mean length; actions within the robot's limits."""
    columns = [np.asarray(dataset.column(name), np.float64) for name in ("observation.state", "action")]
    steps = round(float(np.mean([end - start for start, end in dataset.episodes])))

    def stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
        places, known = np.linspace(0, len(values) - 1, steps), np.arange(len(values))
        return np.stack([np.interp(places, known, channel) for channel in values.T], axis=1)

    states, actions = (
        np.mean([stretched(column[start:end]) for start, end in dataset.episodes], axis=0) for column in columns
    )
    actions = np.clip(actions, limits.action_low, limits.action_high)
    return MeanDemonstration(states.astype(np.float32), actions.astype(np.float32))


class MeanStep(nn.Module):
    """The velocity that leads straight to the mean demonstration's next chunk; see `psi0.model.planned_field`."""

    states: Tensor
    chunks: Tensor
    levels: Tensor

    def __init__(self, mean: MeanDemonstration, scales: Normalizer, horizon: int, levels: NDArray[np.float32]) -> None:
        super().__init__()
        actions = scales.action.normalize(mean.actions)
        rows = np.arange(len(actions))[:, None] + np.arange(horizon)
        self.register_buffer("states", torch.from_numpy(scales.state.normalize(mean.states)))
        self.register_buffer("chunks", torch.from_numpy(actions[np.minimum(rows, len(actions) - 1)]))
        self.register_buffer("levels", torch.from_numpy(levels))

    def forward(
        self, actions: Tensor, step: Tensor, late: Tensor, observations: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Velocity `(1, horizon, 36)`: noise minus action, as the action at the step's noise level shows it."""
        state = observations[:, 0]
        promised = 1 - late
        from_promise = (((self.chunks - actions) ** 2).sum(-1) * promised).sum(-1)
        from_state = ((self.states - state) ** 2).sum(-1)
        distance = torch.where(promised.sum() > 0, from_promise, from_state)
        target = torch.index_select(self.chunks, 0, distance.argmin(keepdim=True))
        return (actions - target) / torch.index_select(self.levels, 0, step) * late[..., None]


class StateAlone(nn.Module):
    """What is seen is the state: one token, beside a mask that hides nothing."""

    def forward(self, state: Tensor, context: Tensor, context_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Observations `(1, 1, 32)` and their mask."""
        return state[:, None], torch.zeros(1, 1, 1, 1)


class Nothing(nn.Module):
    """A graph that takes what its trained counterpart takes and answers with constant zeros of given shapes."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Zeros, whatever comes in."""
        return tuple(torch.zeros(shape) for shape in self.shapes)


def _graphs(step: MeanStep, sizes: System2Config, horizon: int) -> list[Graph]:
    """The four graphs, with example inputs of the shapes that the runtime feeds."""
    patches = torch.zeros(sizes.image_tokens * sizes.merge**2, 3 * 2 * sizes.patch_size**2)
    length = sizes.image_tokens + sizes.max_text_tokens
    vision, language = Nothing((1, 1, 1), (1, 1, 1, 1)), Nothing((1, 1, 1), (1, 1))
    words = (torch.ones(1, length, dtype=torch.int64), torch.ones(1, length))
    noise = torch.randn(1, horizon, step.chunks.shape[-1], generator=torch.Generator().manual_seed(0))
    observe = Graph("s1_observe", StateAlone(), (torch.zeros(1, step.states.shape[-1]), *language()))
    return [
        Graph("s2_vision", vision, (patches,)),
        Graph("s2_language", language, (*words, *vision(patches))),
        observe,
        Graph("s1_step", step, (noise, torch.tensor([0]), torch.ones(1, horizon), *observe.run())),
    ]
