"""What a person expects of the prepared datasets, asked of episodes that the recorder made."""

from pathlib import Path

import numpy as np
import pytest

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.data.quality import read_quality
from psi0.params import Params
from psi0.robot.layout import ActionPart
from psi0.robot.limits import load_limits
from psi0.stages import run_stage

EPISODES = 2


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, robot_folder: Path) -> Path:
    """A checkout in which all raw and prepared datasets were made, two episodes each."""
    from psi0.settings import settings

    folder = tmp_path_factory.mktemp("checkout")
    (folder / "data").mkdir()
    (folder / "data/robot").symlink_to(robot_folder)
    dataset = {"episodes": EPISODES, "workers": 1}
    blocks = dict.fromkeys(("egodex", "humanoid_everyday", "demonstrations"), dataset)
    params = Params.model_validate({"camera": {"width": 48, "height": 36}, "prepare": {"max_bad_share": 0}} | blocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PSI0_HOME", str(folder / ".psi0"))
        settings.cache_clear()
        for stage, task in (("egodex", None), ("humanoid_everyday", None), ("demonstrations", "pick_can")):
            run_stage(stage, task, params)
            run_stage(f"prepare_{stage}", task, params)
        settings.cache_clear()
    return folder


@pytest.mark.parametrize(
    "name", [paths.PREPARED_EGODEX, paths.PREPARED_HUMANOID_EVERYDAY, paths.prepared_demonstrations("pick_can")]
)
def test_every_dataset(recorded: Path, name: Path) -> None:
    dataset = LeRobotDataset(recorded / name, cache=False)
    assert len(dataset.episodes) == EPISODES and dataset.identity["synthetic"] and dataset.identity["redistributable"]
    assert read_quality(recorded / name).set_aside == [] and read_quality(recorded / name).idle_share < 0.5
    for start, end in dataset.episodes:
        assert len(dataset.instruction(start)) > 5
        first, middle = dataset.images([start, (start + end) // 2])
        assert first.std() > 10 and np.abs(first.astype(int) - middle).mean() > 1
        assert np.isfinite(dataset.column("action")[start:end]).all()


def test_egodex(recorded: Path) -> None:
    dataset = LeRobotDataset(recorded / paths.PREPARED_EGODEX, cache=False)
    assert dataset.fps == 30
    valid = dataset.column("action.valid") > 0
    assert (~valid).sum() == 3 * EPISODES
    motion = dataset.column("action")[valid].reshape(-1, 2, 24)
    assert np.abs(motion[..., :3]).max() < 0.3, "a hand moves less than 3 m/s"
    assert np.abs(motion).max(axis=(0, 1))[:6].min() > 1e-3 and not motion[..., 6:9].any()
    assert dataset.identity["action_mask"] == [0.0] * 36


def test_humanoid_everyday(recorded: Path) -> None:
    dataset = LeRobotDataset(recorded / paths.PREPARED_HUMANOID_EVERYDAY, cache=False)
    assert dataset.fps == 30 and sum(dataset.identity["action_mask"]) == 28
    assert (dataset.column("action.task_space_valid") == 0).sum() == 3 * EPISODES
    motion = dataset.column("action.task_space").reshape(-1, 2, 24)
    assert np.abs(motion[..., :3]).max() > 0.01 and not motion[..., 18:].any(), "no ring and little finger"


def test_demonstrations(recorded: Path) -> None:
    dataset = LeRobotDataset(recorded / paths.prepared_demonstrations("pick_can"), cache=False)
    action, state = dataset.column("action"), dataset.column("observation.state")
    limits = load_limits(recorded / "data/robot")
    assert (action >= limits.action_low - 1e-5).all() and (action <= limits.action_high + 1e-5).all()
    assert sum(dataset.identity["action_mask"]) == 36 and sum(dataset.identity["state_mask"]) == 32
    assert np.abs(action[:, ActionPart.VELOCITY]).max() > 0.05, "the robot walks"
    for start, end in dataset.episodes:
        commanded = action[start:end, ActionPart.TORSO_AND_HEIGHT]
        assert np.allclose(state[start + 1 : end, ActionPart.TORSO_AND_HEIGHT], commanded[:-1])
        arms = np.abs(action[start : end - 1, ActionPart.ARMS] - state[start + 1 : end, ActionPart.ARMS])
        assert np.median(arms) < 0.1, "arms follow their targets"
    points = dataset.column("observation.key_points").reshape(len(dataset), -1, 5)
    assert dataset.identity["key_points"] == points.shape[1] and (np.abs(points[:, 0, 3:]) <= 1.5).all()
