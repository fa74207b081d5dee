"""What a stage brings to the training loop: samples in phases, an objective, and what to write at the end."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from psi0.lineage import Lineage
from psi0.params import Training
from psi0.robot.layout import STATE_SIZE
from psi0.train.augmentation import Augmentation
from psi0.train.engine import Batch, Engine


class Samples(Protocol):
    """The samples of one dataset, named by their global row.

    Attributes:
        name: of the dataset.
        training: rows to learn from.
        held_out: rows of the held-out episodes.
    """

    name: str
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]

    def batch(self, rows: NDArray[np.int64], augmentation: Augmentation | None) -> Batch:
        """Tensors on the CPU, first axis the sample; augmented unless None."""
        ...

    def describe(self, row: int) -> str:
        """A sample as a person would look it up: dataset, episode, frame."""
        ...


@dataclass(frozen=True)
class Phase:
    """From `first_step` on, batches come from `samples`."""

    first_step: int
    samples: Samples


class Recipe(ABC):
    """One stage's training.

    Attributes:
        stage: name in `params.yaml`.
        training: its parameters.
        phases: at least one; the first begins at step 0.
        objective: module whose `forward(batch, generator)` returns a dictionary with `loss` (scalar), `per_sample`
            `(batch,)`, and any other scalars to report.
        state_noise: on the normalised state.
    """

    stage: str
    training: Training
    phases: Sequence[Phase]
    objective: nn.Module
    state_noise: float = 0.0

    def phase(self, step: int) -> tuple[int, Phase]:
        """Number and phase that `step` belongs to."""
        number = max(i for i, phase in enumerate(self.phases) if phase.first_step <= step)
        return number, self.phases[number]

    def augmentation(self, source: np.random.Generator) -> Augmentation:
        """Draw the augmentation of one global batch."""
        return Augmentation.draw(source, self.training.batch, self.training, self.state_noise, STATE_SIZE)

    def prepare(self, engine: Engine, origin: Lineage, say: Callable[[str], None]) -> None:
        """What is computed before the first step; `say` tells a person. Collective."""
        return

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser."""

    @abstractmethod
    def trivial(self) -> dict[str, float]:
        """Loss of a predictor that ignores the observation, on the held-out samples: at least `trivial_loss`."""

    def closing(self, engine: Engine) -> dict[str, float]:
        """More held-out numbers, computed once at the end. Collective."""
        return {}

    @abstractmethod
    def write_result(self, folder: Path, origin: Lineage) -> None:
        """Write the trained weights and what belongs to them into an empty folder, a manifest last (rank 0)."""
