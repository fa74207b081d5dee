"""Recorders: the published layouts, the same bytes again and for any number of processes, failures counted."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from psi0 import paths
from psi0.data.stage import prepare_demonstrations
from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_folder
from psi0.params import Camera, Demonstrations, Params, RawDataset
from psi0.sim.recorders.parallel import record_episodes
from psi0.sim.recorders.replay import replay, replayable
from psi0.sim.recorders.skeleton import joint_names
from psi0.sim.stage import make_demonstrations, make_egodex, make_humanoid_everyday
from psi0.sim.world import make_world

CAMERA = Camera(width=32, height=24)


def params(workers: int) -> Params:
    tiny = RawDataset(episodes=2, workers=workers)
    demonstrations = Demonstrations(episodes=2, workers=workers)
    return Params(camera=CAMERA, egodex=tiny, humanoid_everyday=tiny, demonstrations=demonstrations)


def twice(make: Callable[[Params], None], folder: Path) -> None:
    """Record with one process and with two; the bytes must be the same."""
    hashes = []
    for workers in (1, 2):
        make(params(workers))
        hashes.append(sha256_folder(folder))
    assert hashes[0] == hashes[1]
    metadata = read_json(folder / "metadata.json")
    assert metadata["synthetic"] and metadata["schema_version"] == 1
    assert metadata["kept"] == len(metadata["seeds"]) == 2 <= metadata["tried"]


def test_demonstrations_have_the_published_keys(here: Path) -> None:
    folder = paths.raw_demonstrations("pick_can")
    twice(lambda chosen: make_demonstrations(chosen, "pick_can"), folder)
    frames = read_json(folder / "episode_0" / "data.json")
    assert len(frames) == len(list((folder / "episode_0" / "color").glob("frame_*.jpg"))) > 30
    frame = frames[3]
    assert frame["time"] - frames[0]["time"] == pytest.approx(0.3) and frame["image"] == "color/frame_000003.jpg"
    sizes = {"arm_state": 14, "leg_state": 15, "hand_state": 14}
    assert {key: len(frame["states"][key]) for key in sizes} == sizes
    sizes = {"left_angles": 7, "right_angles": 7, "sol_q": 29, "tau_ff": 29, "torso_rpy": 3, "head_rmat": 4}
    assert {key: len(frame["actions"][key]) for key in sizes} == sizes
    assert np.shape(frame["psi0"]["key_points"]) == (3, 5)
    assert set(read_json(folder / "metadata.json")["instructions"]) == {"episode_0", "episode_1"}


def test_humanoid_everyday_stands_still(here: Path) -> None:
    folder = paths.RAW_HUMANOID_EVERYDAY
    twice(make_humanoid_everyday, folder)
    episodes = sorted(folder.glob("*/*/episode_0/data.json"))
    assert len(episodes) == 2
    descriptions = read_json(folder / "task_description_dict.json")
    for path in episodes:
        assert descriptions[path.parent.parent.name]
        frames = read_json(path)
        assert len(frames[0]["action"]["joint_angles"]) == 28
        assert set(frames[0]["action"]["hands"]) == {
            f"{side}_{finger}" for side in ("left", "right") for finger in ("thumb", "index", "middle")
        }
        feet = np.array([frame["states"]["odometry"]["position"][:2] for frame in frames])
        assert np.ptp(feet, axis=0).max() < 0.15
        moved = np.array([frame["states"]["arm_state"] for frame in frames])
        assert np.ptp(moved, axis=0).max() > 0.3


def test_egodex_has_all_joints_and_one_video_frame_per_pose(here: Path) -> None:
    import av

    twice(make_egodex, paths.RAW_EGODEX)
    assert len(joint_names()) == len(set(joint_names())) == 68
    files = sorted(paths.RAW_EGODEX.glob("test/*/*.hdf5"))
    assert len(files) == 2
    for path in files:
        with h5py.File(path) as file:
            assert set(file["transforms"]) == {"camera", *joint_names()}
            assert set(file["confidences"]) == set(joint_names())
            assert file["camera/intrinsic"].shape == (3, 3) and file.attrs["llm_type"] == "reversible"
            poses = file["transforms/rightHand"][()]
            camera = file["transforms/camera"][()]
        assert poses.dtype == np.float32 and poses.shape[1:] == (4, 4)
        assert np.abs(poses[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2) - np.eye(3)).max() < 1e-5
        seen = np.einsum("nij,nj->ni", np.linalg.inv(camera), poses[:, :, 3])
        assert (seen[:, 2] > 0).all(), "the hand is in front of the camera"
        with av.open(str(path.with_suffix(".mp4"))) as video:
            assert sum(1 for _ in video.decode(video=0)) == len(poses)


class OddSeeds:
    """Keeps odd seeds only."""

    def record(self, seed: int, folder: Path) -> dict[str, Any] | None:
        (folder / "seed").write_text(str(seed))
        return {"frames": 1} if seed % 2 else None


class NoSeeds:
    """Keeps nothing."""

    def record(self, seed: int, folder: Path) -> dict[str, Any] | None:
        return None


def test_discarded_episodes_are_counted_and_leave_nothing(tmp_path: Path) -> None:
    kept, tried = record_episodes(OddSeeds, (), label="odd seeds", wanted=3, first_seed=10, workers=1, folder=tmp_path)
    assert [episode.seed for episode in kept] == [11, 13, 15] and tried == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["11", "13", "15"]


def test_a_recorder_that_hardly_ever_succeeds_gives_up(tmp_path: Path) -> None:
    with pytest.raises(Psi0Error, match="only 0 of 8 attempts succeeded, 2 are wanted"):
        record_episodes(NoSeeds, (), label="nothing", wanted=2, first_seed=0, workers=1, folder=tmp_path)


class Killed:
    """Dies in the middle of an episode."""

    def record(self, seed: int, folder: Path) -> dict[str, Any] | None:
        os.kill(os.getpid(), signal.SIGKILL)
        return None


def test_a_killed_process_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Psi0Error, match="a recording process was killed"):
        record_episodes(Killed, (), label="nothing", wanted=2, first_seed=0, workers=2, folder=tmp_path)


def test_an_imported_demonstration_ends_as_it_was_recorded(here: Path) -> None:
    chosen = params(1)
    make_demonstrations(chosen, "pick_can")
    prepare_demonstrations(chosen, "pick_can")
    raw, prepared = paths.raw_demonstrations("pick_can"), paths.prepared_demonstrations("pick_can")
    recorded = replayable(raw, prepared, chosen.demonstrations.recoveries)
    world = make_world("pick_can", chosen.control, CAMERA, render=False)
    outcomes = [replay(world, seed, actions, chosen.demonstrations.noise) for seed, actions in recorded]
    assert outcomes and all(outcome is not None and outcome.success for outcome in outcomes)
    seed, actions = recorded[0]
    assert replay(world, seed, actions[:10], chosen.demonstrations.noise) is None
    assert replay(world, seed, actions[:-20], chosen.demonstrations.noise), (
        "it succeeds, and two seconds more are shown"
    )
    assert replay(world, seed, actions[:-21], chosen.demonstrations.noise) is None
    (raw / "metadata.json").write_text('{"schema_version": 1}')
    with pytest.raises(Psi0Error, match="do not belong together"):
        replayable(raw, prepared, 0.3)
