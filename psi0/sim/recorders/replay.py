"""A recorded demonstration played back: the proof that what was imported is what happened."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psi0.data.dataset import LeRobotDataset
from psi0.data.quality import read_quality
from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.sim.demonstrators.disturbance import Disturbance
from psi0.sim.recorders.teleoperation import begins_with_a_mistake
from psi0.sim.world import Outcome, World


def replay(world: World, seed: int, actions: NDArray[np.floating], noise: float) -> Outcome | None:
    """Execute recorded actions `(n, 36)` from a seed's start, disturbed as they were when they were recorded.

    Returns None when the actions end before the episode does.

    Raises:
        InvalidSeed: the seed is not one that was recorded.
    """
    world.reset(seed)
    disturbance = Disturbance(world.policy_hz, noise, seed)
    for action in actions:
        outcome = world.step(world.limits.clip(disturbance.disturb(np.asarray(action, np.float32))))
        if outcome is not None:
            return outcome
    return None


def replayable(raw: Path, prepared: Path, recoveries: float) -> list[tuple[int, NDArray[np.float32]]]:
    """Seeds and imported actions `(n, 36)` of a recorder's demonstrations that were recorded from their start on.

    Args:
        raw: what the recorder wrote.
        prepared: the dataset that was made of it.
        recoveries: `demonstrations.recoveries` with which it was recorded.

    Raises:
        Psi0Error: the raw episodes are not the recorder's, or the dataset is of other ones.
    """
    seeds = read_json(raw / "metadata.json").get("seeds")
    dataset, kept = LeRobotDataset(prepared), read_quality(prepared).kept
    if not isinstance(seeds, list) or len(kept) != len(dataset.episodes) or len(kept) > len(seeds):
        raise Psi0Error(f"{raw} and {prepared} do not belong together; `dvc repro` makes both again")
    actions, found = dataset.column("action"), []
    for episode in kept:
        seed = int(seeds[int(episode.name.rsplit("_", 1)[1])])
        if not begins_with_a_mistake(seed, recoveries):
            start, end = dataset.episodes[episode.episode_index]
            found.append((seed, np.asarray(actions[start:end], np.float32)))
    return found
