"""Prepared datasets are LeRobot v3.0 to the letter, hold the right numbers, and come out the same twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import raw_layouts
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.data.frames_at import frames_at
from psi0.data.lerobot_format import Feature
from psi0.data.lerobot_writer import LeRobotWriter
from psi0.data.quality import read_quality
from psi0.data.stage import prepare_demonstrations, prepare_egodex, prepare_humanoid_everyday
from psi0.data.statistics import ImageStatistics
from psi0.data.video import VideoFormat, encode, exact_rate
from psi0.files import folder_files, sha256_folder
from psi0.params import Params

MakeParams = Callable[..., Params]
STAGES = ("egodex", "humanoid_everyday", "demonstrations")


def prepare(stage: str, params: Params) -> Path:
    """Make raw episodes of a kind and run its prepare stage in the current folder."""
    if stage == "egodex":
        raw_layouts.egodex(paths.RAW_EGODEX)
        prepare_egodex(params)
        return paths.PREPARED_EGODEX
    if stage == "humanoid_everyday":
        raw_layouts.humanoid_everyday(paths.RAW_HUMANOID_EVERYDAY)
        prepare_humanoid_everyday(params)
        return paths.PREPARED_HUMANOID_EVERYDAY
    raw_layouts.teleoperation(paths.raw_demonstrations("pick_can"))
    prepare_demonstrations(params, "pick_can")
    return paths.prepared_demonstrations("pick_can")


@pytest.mark.parametrize("stage", STAGES)
def test_layout_is_lerobot_3(stage: str, workspace: Path, params: MakeParams) -> None:
    """Open the folder the way LeRobot does: only through the templates and columns that it names."""
    folder = prepare(stage, params())
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["chunks_size"] == 1000
    assert info["splits"] == {"train": f"0:{info['total_episodes']}"}
    columns = [name for name, entry in info["features"].items() if entry["dtype"] != "video"]
    cameras = [name for name, entry in info["features"].items() if entry["dtype"] == "video"]
    assert cameras == ["observation.images.egocentric"] and not any("/" in name for name in info["features"])
    import pandas

    tasks = pandas.read_parquet(folder / "meta/tasks.parquet")
    assert tasks.index.name == "task" and list(tasks["task_index"]) == list(range(info["total_tasks"]))
    episodes = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert len(episodes) == info["total_episodes"] == 3
    for record in episodes:
        place = {"chunk_index": record["data/chunk_index"], "file_index": record["data/file_index"]}
        table = pq.read_table(folder / info["data_path"].format(**place))
        assert table.column_names == columns
        rows = table.slice(record["dataset_from_index"], record["length"])
        assert record["dataset_to_index"] - record["dataset_from_index"] == record["length"]
        assert set(rows.column("episode_index").to_pylist()) == {record["episode_index"]}
        assert rows.column("index").to_pylist() == list(range(record["dataset_from_index"], record["dataset_to_index"]))
        assert_allclose(rows.column("timestamp").to_numpy(), np.arange(record["length"]) / info["fps"], atol=1e-4)
        assert tasks.loc[record["tasks"][0]]["task_index"] == rows.column("task_index")[0].as_py()
        prefix = f"videos/{cameras[0]}"
        span = record[f"{prefix}/to_timestamp"] - record[f"{prefix}/from_timestamp"]
        assert span == pytest.approx(record["length"] / info["fps"], abs=1e-4)
        assert {"meta/episodes/chunk_index", "stats/action/mean", f"stats/{cameras[0]}/q99"} <= set(record)
        assert np.shape(record[f"stats/{cameras[0]}/mean"]) == (3, 1, 1)
    place = {key: episodes[2][f"{prefix}/{key}"] for key in ("chunk_index", "file_index")}
    video = folder / info["video_path"].format(video_key=cameras[0], **place)
    begin = episodes[2][f"{prefix}/from_timestamp"]
    images = list(frames_at(video, [begin, begin + 4 / info["fps"]], info["fps"]))
    assert np.abs(images[1].astype(int) - raw_layouts.picture(4)).mean() < 5
    for name, entry in info["features"].items():
        if entry["dtype"] != "video":
            field = pq.read_schema(folder / "data/chunk-000/file-000.parquet").field(name)
            size = field.type.list_size if entry["shape"] != [1] else 1
            assert [size] == entry["shape"] and (entry["names"] is None or len(entry["names"]) == size)


@pytest.mark.parametrize("stage", STAGES)
def test_same_input_gives_same_bytes(stage: str, workspace: Path, params: MakeParams) -> None:
    folder = prepare(stage, params())
    before = {path: (folder / path).read_bytes() for path in folder_files(folder)}
    prepare(stage, params())
    for path, content in before.items():
        assert (folder / path).read_bytes() == content, path
    assert str(workspace) not in "".join(content.decode(errors="ignore") for content in before.values())


def camera_motion(step: int, gap: int) -> list[float]:
    """The 48 numbers written out joint by joint."""
    joints = raw_layouts.EGODEX_JOINTS
    to_camera = np.linalg.inv(raw_layouts.pose(step, 0).astype(np.float64))
    numbers: list[float] = []
    for side in ("left", "right"):
        hand = joints.index(f"{side}Hand")
        now, then = (to_camera @ raw_layouts.pose(at, hand).astype(np.float64) for at in (step, step + gap))
        turn = Rotation.from_matrix(then[:3, :3]) * Rotation.from_matrix(now[:3, :3]).inv()
        numbers += [*(then[:3, 3] - now[:3, 3]), *turn.as_euler("xyz"), 0, 0, 0]
        for finger in raw_layouts.FINGERS:
            tip = joints.index(f"{side}{finger}Tip")
            now, then = (to_camera @ raw_layouts.pose(at, tip).astype(np.float64) for at in (step, step + gap))
            numbers += list(then[:3, 3] - now[:3, 3])
    return numbers


def test_stage_1_numbers_of_egodex(workspace: Path, params: MakeParams) -> None:
    dataset = LeRobotDataset(prepare("egodex", params()))
    action, valid = dataset.column("action"), dataset.column("action.valid")
    start, end = dataset.episodes[1]
    assert action.shape == (63, 48) and valid.shape == (63,)
    assert valid[start:end].tolist() == [1] * (end - start - 3) + [0] * 3
    for step in (0, 5, 17):
        assert_allclose(action[start + step], camera_motion(step, 3), atol=2e-6)
    assert not action[end - 3 : end].any()
    rows = action[valid > 0]
    assert_allclose(dataset.stats["action"]["q99"], np.quantile(rows.astype(np.float64), 0.99, axis=0), rtol=1e-6)
    assert dataset.stats["action"]["count"].tolist() == [len(rows)]


def test_stage_1_numbers_of_humanoid_everyday(workspace: Path, params: MakeParams) -> None:
    dataset = LeRobotDataset(prepare("humanoid_everyday", params(tokenizer={"frame_gap": 2})))
    motion, valid = dataset.column("action.task_space"), dataset.column("action.task_space_valid")
    frames = [raw_layouts.humanoid_everyday_frame(step)["action"] for step in range(20)]
    for step in (0, 9):
        numbers: list[float] = []
        for side in ("left", "right"):
            now, then = (frames[at]["wrists"][side] for at in (step, step + 2))
            turn = Rotation.from_euler("xyz", then["rpy"]) * Rotation.from_euler("xyz", now["rpy"]).inv()
            numbers += [*np.subtract(then["xyz"], now["xyz"]), *turn.as_euler("xyz"), 0, 0, 0]
            for finger in ("thumb", "index", "middle"):
                now, then = (frames[at]["hands"][f"{side}_{finger}"]["xyz"] for at in (step, step + 2))
                numbers += list(np.subtract(then, now))
            numbers += [0] * 6
        assert_allclose(motion[step], numbers, atol=2e-6)
    assert valid.reshape(3, 20).sum(axis=1).tolist() == [18] * 3
    assert dataset.column("action").shape == (60, 36) and dataset.column("observation.state").shape == (60, 32)
    assert dataset.identity["action_mask"] == [1.0] * 28 + [0.0] * 8
    assert dataset.identity["synthetic"] is False and dataset.identity["redistributable"] is True


def test_round_trip_of_demonstrations(workspace: Path, params: MakeParams) -> None:
    dataset = LeRobotDataset(prepare("demonstrations", params()))
    assert dataset.fps == 10 and dataset.episodes == [(0, 12), (12, 25), (25, 39)] and len(dataset) == 39
    assert dataset.instruction(30) == "pick up the red can" and dataset.episode_of(12) == 1
    frame = raw_layouts.teleoperation_frame(3, 10, 2)
    assert_allclose(dataset.column("action")[12 + 3][:7], frame["actions"]["left_angles"], atol=1e-6)
    assert dataset.column("observation.key_points").shape == (39, 10) and dataset.identity["key_points"] == 2
    rows = [38, 0, 12, 12, 20]
    seek = LeRobotDataset(dataset.folder, cache=False)
    images = dataset.images(rows)
    assert images.dtype == np.uint8 and images.shape == (5, 24, 32, 3)
    assert (images == seek.images(rows)).all()
    for row, image in zip(rows, images, strict=True):
        step = row - dataset.episodes[dataset.episode_of(row)][0]
        assert np.abs(image.astype(int) - raw_layouts.picture(step)).mean() < 4
    for name in ("action", "observation.state", "timestamp", "index"):
        values = dataset.column(name).reshape(39, -1).astype(np.float64)
        stats = dataset.stats[name]
        for key, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
            assert_allclose(stats[key], np.quantile(values, share, axis=0), atol=1e-9)
        assert_allclose(stats["mean"], values.mean(axis=0), atol=1e-9)
        assert_allclose(stats["std"], values.std(axis=0), atol=1e-9)
        assert_allclose(stats["min"], values.min(axis=0)) and assert_allclose(stats["max"], values.max(axis=0))
        assert stats["count"] == [39]


def test_recorded_faster_than_the_policy_acts(workspace: Path, params: MakeParams) -> None:
    raw_layouts.teleoperation(paths.raw_demonstrations("pick_can"), episodes=1, frames=31, rate=30, metadata=False)
    prepare_demonstrations(params(), "pick_can")
    dataset = LeRobotDataset(paths.prepared_demonstrations("pick_can"))
    assert dataset.fps == 10 and len(dataset) == 11
    assert_allclose(
        dataset.column("action")[2][:7], raw_layouts.teleoperation_frame(6, 30)["actions"]["left_angles"], atol=1e-6
    )
    assert np.abs(dataset.images([4])[0].astype(int) - raw_layouts.picture(12)).mean() < 4
    assert dataset.instruction(0) == "pick can"
    commanded, state = dataset.column("action")[:, 28:32], dataset.column("observation.state")[:, 28:32]
    assert_allclose(state[1:], commanded[:-1])
    assert_allclose(state[0], [0, 0, 0, 0.75])


def test_quality_names_what_does_not_move(workspace: Path, params: MakeParams) -> None:
    report = read_quality(prepare("demonstrations", params()))
    assert "action: velocity_x" in report.still_channels and "action: height" not in report.still_channels
    assert [entry.name for entry in report.kept] == ["episode_0", "episode_1", "episode_2"]
    assert report.kept[0].frame_rate == pytest.approx(10) and report.kept[0].gaps == 0
    spread = {channel.name: channel.spread for channel in report.channels["action"]}
    assert spread["torso_roll"] == pytest.approx(0.13, abs=1e-6)


def test_files_roll_over_at_their_size(tmp_path: Path) -> None:
    form = VideoFormat(32, 24, exact_rate(29.97))
    writer = LeRobotWriter(
        tmp_path, {"action": Feature(3, ("a", "b", "c"))}, "observation.images.egocentric", form, "g1", None, 1e-4, 1e-3
    )
    pictures = [raw_layouts.picture(step) for step in range(12)]
    seen = ImageStatistics()
    for picture in pictures:
        seen.add(picture)
    for episode in range(3):
        values = np.full((12, 3), episode, np.float32)
        writer.add({"action": values}, encode(pictures, form), f"task {episode}", seen.result())
    writer.finish(seen.result())
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 3 == len(list((tmp_path / "videos").rglob("*.mp4")))
    dataset = LeRobotDataset(tmp_path, cache=False)
    assert (
        dataset.tasks == ["task 0", "task 1", "task 2"]
        and dataset.column("action")[:, 0].tolist() == [0] * 12 + [1] * 12 + [2] * 12
    )
    assert np.abs(dataset.images([35])[0].astype(int) - pictures[11]).mean() < 4
    pixels = np.stack(pictures).reshape(-1, 3) / 255
    assert_allclose(dataset.stats["observation.images.egocentric"]["mean"].ravel(), pixels.mean(axis=0), atol=1e-9)
    assert_allclose(dataset.stats["observation.images.egocentric"]["std"].ravel(), pixels.std(axis=0), atol=1e-9)


def test_a_dataset_of_other_people(tmp_path: Path, workspace: Path, params: MakeParams) -> None:
    """Other key names, a camera of another name, a template that fits nothing."""
    folder = prepare("demonstrations", params())
    info: dict[str, Any] = json.loads((folder / "meta/info.json").read_text())
    camera = "observation.images.head_cam"
    (folder / "videos/observation.images.egocentric").rename(folder / "videos" / camera)
    info["features"][camera] = info["features"].pop("observation.images.egocentric")
    info["features"]["observation.images.missing"] = info["features"][camera]
    info["video_path"] = "movies/{video_key}/{chunk}.mp4"
    (folder / "meta/info.json").write_text(json.dumps(info))
    (folder / "meta/psi0.json").unlink()
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(
        table.rename_columns([name.replace("images.egocentric", "images.head_cam") for name in table.column_names]),
        path,
    )
    data = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    pq.write_table(
        table.rename_columns([name.replace("observation.state", "states") for name in table.column_names]), data
    )
    dataset = LeRobotDataset(folder, cache=False)
    assert dataset.identity == {} and dataset.camera == camera
    assert dataset.column("observation.state").shape == (39, 32)
    assert np.abs(dataset.images([15])[0].astype(int) - raw_layouts.picture(3)).mean() < 4


def test_cache_is_keyed_by_content(workspace: Path, params: MakeParams, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = LeRobotDataset(prepare("demonstrations", params()))
    dataset.images([0])
    assert "image cache: 39 images" in capsys.readouterr().err
    LeRobotDataset(dataset.folder).images([1])
    assert "image cache" not in capsys.readouterr().err
    before = sha256_folder(dataset.folder)
    prepare("demonstrations", params(camera={"width": 16, "height": 12}))
    again = LeRobotDataset(dataset.folder)
    assert sha256_folder(dataset.folder) != before and again.fingerprint != dataset.fingerprint
    assert again.images([0]).shape == (1, 12, 16, 3)
    assert len(list(Path(".psi0/cache").glob("*.uint8"))) == 2 and not list(Path(".psi0/cache").glob("*.tmp"))
