"""The mean demonstration as graphs: played by the same runtime as a trained policy, and blind."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from learnable import write_dataset

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.evaluate.rollout import ChunkedActions, Pace
from psi0.export.interface import GRAPHS
from psi0.export.mean_demonstration import MeanDemonstration, export_mean_demonstration
from psi0.export.runtime import GraphPolicy
from psi0.export.stage import export_folder
from psi0.files import read_json
from psi0.params import Export, Params
from psi0.policy import Observation
from psi0.robot.layout import STATE_SIZE

TASK = "pick_can"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, policy_folder: Path, robot_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    write_dataset(folder / paths.prepared_demonstrations(TASK), "demonstrations", episodes=3, frames=20, rate=10)
    for source, target in ((policy_folder, paths.policy(TASK)), (robot_folder, paths.ROBOT)):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).symlink_to(source)
    return folder


@pytest.fixture(scope="module")
def exported(workspace: Path) -> tuple[MeanDemonstration, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        mean = export_mean_demonstration(Params(), TASK)
    return mean, workspace / paths.graphs(TASK)


def played(graphs: Path, steps: int, seed: int, pace: Pace) -> np.ndarray:
    """Actions `(steps, 36)` of an episode with random images, the robot standing at rest first."""
    policy, draw = GraphPolicy(graphs), np.random.default_rng(seed)
    policy.reset(seed)
    scale = policy.normalizer.action
    actions = ChunkedActions(policy, pace, scale.center.astype(np.float32))

    def look(step: int, previous: np.ndarray | None, delay: int) -> Observation:
        image = draw.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        return Observation(image, np.zeros(STATE_SIZE, np.float32), "Pick up the can.", step, previous, delay)

    return np.stack(
        [actions.action(step, lambda previous, delay, at=step: look(at, previous, delay)) for step in range(steps)]
    )


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_it_plays_the_mean_demonstration_to_its_end_and_stays(
    exported: tuple[MeanDemonstration, Path], delay: int
) -> None:
    mean, graphs = exported
    policy = GraphPolicy(graphs)
    scale, layout = policy.normalizer.action, policy.layout
    expected = np.clip(scale.denormalize(scale.normalize(mean.actions)), layout.action_low, layout.action_high)
    steps = len(expected) + 6
    actions = played(graphs, steps, seed=3, pace=Pace(4, delay))
    np.testing.assert_allclose(actions[delay : len(expected)], expected[delay:], atol=1e-5)
    np.testing.assert_allclose(actions[len(expected) :], np.tile(expected[-1], (6, 1)), atol=1e-5)


def test_it_sees_nothing(exported: tuple[MeanDemonstration, Path]) -> None:
    _, graphs = exported
    one, other = (played(graphs, 16, seed, Pace(4, 2)) for seed in (1, 2))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_its_graphs_look_like_a_trained_policys(
    exported: tuple[MeanDemonstration, Path], policy_folder: Path, tmp_path: Path
) -> None:
    mean, graphs = exported
    export_folder(policy_folder, tmp_path / "graphs", Export())
    for name in GRAPHS:
        ours, theirs = (onnx.load(str(folder / f"{name}.onnx")).graph for folder in (graphs, tmp_path / "graphs"))
        assert [value.name for value in ours.input] == [value.name for value in theirs.input]
        assert {value.name for value in ours.output} <= {value.name for value in theirs.output}
    assert {file.name for file in graphs.iterdir()} == {file.name for file in (tmp_path / "graphs").iterdir()}
    assert read_json(graphs / "parity.json")["passed"]
    assert read_json(graphs / "manifest.json")["policy_sha256"] == mean.sha256
    assert set(read_json(graphs / "lineage.json")["data"]) == {"demonstrations"}


def test_without_a_policy_it_says_what_to_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Psi0Error, match=r"models/policy/pick_can holds no policy .*dvc repro finetune@pick_can"):
        export_mean_demonstration(Params(), TASK)
