"""Real data is indexed where it lies, followed from there, and named when it changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import raw_layouts

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.data.episode import Options
from psi0.data.features import CAMERA
from psi0.data.index import index_raw
from psi0.data.quality import read_quality
from psi0.data.stage import prepare_demonstrations, prepare_egodex, prepare_humanoid_everyday
from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_file
from psi0.params import Params

MakeParams = Callable[..., Params]
TASK = "pick_can"


def test_egodex_elsewhere(workspace: Path, params: MakeParams) -> None:
    source = raw_layouts.egodex(workspace / "downloads", episodes=12, metadata=False)
    (source / ".cache").mkdir()
    (source / ".cache/9.mp4").write_text("left by a downloader")
    index_raw(str(source), "auto", 3, paths.RAW_EGODEX)
    index = read_json(paths.RAW_EGODEX / "index.json")
    assert index["format"] == "egodex" and index["redistributable"] is False
    assert [file["path"] for file in index["files"]] == [
        f"test/pick_can/{n}.{e}" for n in range(3) for e in ("hdf5", "mp4")
    ]
    first = source / "test/pick_can/0.hdf5"
    assert index["files"][0] == {
        "path": "test/pick_can/0.hdf5",
        "size": first.stat().st_size,
        "checksum": sha256_file(first),
    }
    assert sorted(path.name for path in paths.RAW_EGODEX.iterdir()) == ["index.json", "metrics.json"]
    prepare_egodex(params())
    dataset = LeRobotDataset(paths.PREPARED_EGODEX)
    assert len(dataset.episodes) == 3
    assert dataset.identity["redistributable"] is False and dataset.identity["synthetic"] is False


def test_the_raw_stage_indexes_what_its_source_names(workspace: Path, params: MakeParams) -> None:
    from psi0.stages import run_stage

    source = raw_layouts.egodex(workspace / "downloads", metadata=False)
    chosen = params(egodex={"source": str(source), "episodes": 2})
    for stage in ("egodex", "prepare_egodex"):
        run_stage(stage, None, chosen)
    assert len(LeRobotDataset(paths.PREPARED_EGODEX).episodes) == 2
    with pytest.raises(Psi0Error, match="source nowhere is no folder"):
        run_stage("egodex", None, params(egodex={"source": "nowhere"}))
    assert (paths.RAW_EGODEX / "index.json").exists()


def test_a_changed_or_missing_file_is_named(workspace: Path, params: MakeParams) -> None:
    source = raw_layouts.egodex(workspace / "downloads")
    index_raw(str(source), "egodex", 80, paths.RAW_EGODEX)
    video = source / "test/pick_can/2.mp4"
    content = video.read_bytes()
    video.write_bytes(content[:-1] + b"?")
    with pytest.raises(Psi0Error, match=r"2\.mp4 changed since it was indexed.*dvc repro --force"):
        prepare_egodex(params())
    video.write_bytes(content + b"?")
    with pytest.raises(Psi0Error, match=r"2\.mp4 changed \(size\)"):
        prepare_egodex(params())
    video.unlink()
    with pytest.raises(Psi0Error, match=r"2\.mp4 is missing"):
        prepare_egodex(params())
    assert not paths.PREPARED_EGODEX.exists()


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot_as_demonstrations(version: str, workspace: Path, params: MakeParams) -> None:
    source = workspace / "downloads"
    raw_layouts.lerobot_2(source, episodes=4, codec="av1")
    index_raw(str(source), "auto", 80, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    if version == "v3.0":
        third = workspace / "third"
        paths.prepared_demonstrations(TASK).rename(third)
        index_raw(str(third), "auto", 80, paths.raw_demonstrations(TASK))
        prepare_demonstrations(params(), TASK)
    dataset = LeRobotDataset(paths.prepared_demonstrations(TASK))
    assert len(dataset.episodes) == 4 and dataset.fps == 10 and dataset.tasks == ["pick up the can"]
    assert dataset.column("action")[15 * 2 + 5].tolist() == pytest.approx(raw_layouts.joints(5, 36, 3), abs=1e-6)
    assert abs(dataset.images([15 * 3 + 7])[0].astype(int) - raw_layouts.picture(7)).mean() < 6


def test_real_data_may_use_less_than_it_has(workspace: Path, params: MakeParams) -> None:
    source = raw_layouts.lerobot_2(workspace / "downloads", episodes=4)
    index_raw(str(source), "lerobot", 2, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    assert len(LeRobotDataset(paths.prepared_demonstrations(TASK)).episodes) == 2


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_only_the_files_in_use_are_indexed(version: str, workspace: Path, params: MakeParams) -> None:
    """Neither other episodes' files nor other cameras' videos."""
    cameras = ("observation.images.cam_left_wrist", "observation.images.cam_left_high")
    source = raw_layouts.lerobot_2(workspace / "downloads", episodes=4, cameras=cameras)
    if version == "v3.0":
        index_raw(str(source), "auto", 4, paths.raw_demonstrations(TASK))
        prepare_demonstrations(params(), TASK)
        source = workspace / "third"
        paths.prepared_demonstrations(TASK).rename(source)
    index_raw(str(source), "auto", 2, paths.raw_demonstrations(TASK))
    files = [file["path"] for file in read_json(paths.raw_demonstrations(TASK) / "index.json")["files"]]
    used = [file for file in files if not file.startswith("meta/")]
    if version == "v3.0":
        assert used == ["data/chunk-000/file-000.parquet", f"videos/{CAMERA}/chunk-000/file-000.mp4"]
    else:
        assert used == [f"data/chunk-000/episode_{i:06d}.parquet" for i in range(2)] + [
            f"videos/chunk-000/{cameras[1]}/episode_{i:06d}.mp4" for i in range(2)
        ]


def test_one_camera_for_the_whole_dataset(workspace: Path, params: MakeParams) -> None:
    cameras = ("wrist", "egocentric", "declared_head")
    source = raw_layouts.lerobot_2(workspace / "downloads", cameras=cameras)
    shutil.rmtree(source / "videos/chunk-000/declared_head")
    (source / "videos/chunk-000/egocentric/episode_000001.mp4").unlink()
    raw_layouts.video(source / "videos/chunk-000/wrist/episode_000002.mp4", 9, rate=10)
    index_raw(str(source), "auto", 80, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    [bad] = read_quality(paths.prepared_demonstrations(TASK)).set_aside
    assert (bad.name, bad.reason) == ("episode_000001", "the video of egocentric is missing")
    index_raw(str(source), "auto", 80, paths.raw_demonstrations(TASK), options=Options(camera="wrist"))
    prepare_demonstrations(params(), TASK)
    [bad] = read_quality(paths.prepared_demonstrations(TASK)).set_aside
    assert (bad.name, bad.reason) == ("episode_000002", "the video holds 9 frames, the numbers 15")
    with pytest.raises(Psi0Error, match=r"has no camera lens; it has egocentric, declared_head, wrist: set `camera`"):
        index_raw(str(source), "auto", 80, paths.raw_demonstrations(TASK), options=Options(camera="lens"))


def test_a_video_of_version_3_one_frame_short_is_used(workspace: Path, params: MakeParams) -> None:
    source = workspace / "third"
    raw_layouts.lerobot_2(workspace / "downloads", episodes=2)
    index_raw(str(workspace / "downloads"), "auto", 2, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    paths.prepared_demonstrations(TASK).rename(source)
    raw_layouts.video(source / f"videos/{CAMERA}/chunk-000/file-000.mp4", 29, rate=10)
    index_raw(str(source), "auto", 2, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    assert LeRobotDataset(paths.prepared_demonstrations(TASK)).episodes == [(0, 15), (15, 29)]


def test_time_stamps_that_agree_count_more_than_a_wrong_fps(workspace: Path, params: MakeParams) -> None:
    source = raw_layouts.lerobot_2(workspace / "downloads")
    info = read_json(source / "meta/info.json")
    (source / "meta/info.json").write_text(json.dumps(info | {"fps": 50}))
    index_raw(str(source), "auto", 80, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    report = read_quality(paths.prepared_demonstrations(TASK))
    assert report.frame_rate == 10 and len(report.kept) == 3
    assert report.remarks == ["the source states 50 Hz, its time stamps say 10 Hz: the time stamps were used"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "tasks.jsonl",
            '{"name": 1}',
            r"meta/tasks.jsonl is not as its format describes it \(KeyError: 'task_index'\)",
        ),
        ("episodes.jsonl", '{"length": 1}', r"meta/episodes.jsonl is not as its format .*'episode_index'"),
        ("info.json", '{"codebase_version": "v2.1", "features": {"x": 3}}', "meta/info.json is not as its format"),
    ],
)
def test_broken_metadata_is_named(file: str, content: str, reason: str, workspace: Path, params: MakeParams) -> None:
    source = raw_layouts.lerobot_2(workspace / "downloads")
    lines = (source / "meta/episodes.jsonl").read_text().replace('"tasks": ["pick up the can"], ', "")
    (source / "meta/episodes.jsonl").write_text(lines)
    (source / "meta" / file).write_text(content)
    with pytest.raises(Psi0Error, match=reason):
        index_raw(str(source), "auto", 80, paths.raw_demonstrations(TASK))
        prepare_demonstrations(params(), TASK)


def without_time(source: Path) -> None:
    for path in source.rglob("data.json"):
        frames = json.loads(path.read_text())
        for frame in frames:
            del frame["time"]
        path.write_text(json.dumps(frames))


def test_frames_without_time_are_at_the_published_rate(workspace: Path, params: MakeParams) -> None:
    source = raw_layouts.humanoid_everyday(workspace / "downloads")
    without_time(source)
    (source / "metadata.json").write_text('{"made by": "somebody else"}')
    index_raw(str(source), "auto", 80, paths.RAW_HUMANOID_EVERYDAY)
    prepare_humanoid_everyday(params())
    assert LeRobotDataset(paths.PREPARED_HUMANOID_EVERYDAY).fps == 30
    index_raw(str(source), "auto", 80, paths.RAW_HUMANOID_EVERYDAY, options=Options(frame_rate=15))
    prepare_humanoid_everyday(params())
    assert LeRobotDataset(paths.PREPARED_HUMANOID_EVERYDAY).fps == 15


def test_unitree_as_demonstrations(workspace: Path, params: MakeParams) -> None:
    from psi0.stages import run_stage

    source = raw_layouts.unitree(workspace / "downloads/cups", frames=30)
    chosen = params(demonstrations={"source": str(source), "source_hz": 20, "camera": "color_0"})
    for stage in ("demonstrations", "prepare_demonstrations"):
        run_stage(stage, TASK, chosen)
    dataset = LeRobotDataset(paths.prepared_demonstrations(TASK))
    assert dataset.fps == 10 and dataset.episodes == [(0, 15), (15, 30)] and dataset.tasks == ["Pick up the red cup."]
    assert sum(dataset.identity["action_mask"]) == 28


def test_linked_folders_are_followed(workspace: Path) -> None:
    raw_layouts.egodex(workspace / "disk/part1", episodes=2, metadata=False)
    source = workspace / "downloads"
    source.mkdir()
    (source / "part1").symlink_to(workspace / "disk/part1")
    (workspace / "disk/part1/test/back").symlink_to(source)
    index_raw(str(source), "auto", 80, paths.RAW_EGODEX)
    files = [file["path"] for file in read_json(paths.RAW_EGODEX / "index.json")["files"]]
    assert files == [f"part1/test/pick_can/{n}.{e}" for n in range(2) for e in ("hdf5", "mp4")]


def test_lerobot_is_refused_as_egodex_at_once(workspace: Path, params: MakeParams) -> None:
    from psi0.stages import run_stage

    source = raw_layouts.lerobot_2(workspace / "downloads", episodes=1)
    with pytest.raises(Psi0Error, match="is in the format lerobot; this dataset takes egodex"):
        run_stage("egodex", None, params(egodex={"source": str(source)}))
    assert not paths.RAW_EGODEX.exists()


def test_teleoperation_of_several_tasks(workspace: Path, params: MakeParams) -> None:
    for task in ("Pick_Can", "push-cart"):
        raw_layouts.teleoperation(workspace / "downloads" / task, episodes=1, metadata=False)
    index_raw(str(workspace / "downloads"), "auto", 80, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    assert LeRobotDataset(paths.prepared_demonstrations(TASK)).tasks == ["pick can", "push cart"]


def test_humanoid_everyday_is_told_from_teleoperation(workspace: Path, params: MakeParams) -> None:
    source = raw_layouts.humanoid_everyday(workspace / "downloads")
    (source / "task_description_dict.json").unlink()
    index_raw(str(source), "auto", 80, paths.RAW_HUMANOID_EVERYDAY)
    assert read_json(paths.RAW_HUMANOID_EVERYDAY / "index.json")["format"] == "humanoid_everyday"
    prepare_humanoid_everyday(params())
    assert LeRobotDataset(paths.PREPARED_HUMANOID_EVERYDAY).tasks == ["pick can"]


def test_sources_that_cannot_be(workspace: Path) -> None:
    target = paths.RAW_EGODEX
    with pytest.raises(Psi0Error, match="source /nowhere is no folder"):
        index_raw("/nowhere", "auto", 1, target)
    empty = workspace / "empty"
    empty.mkdir()
    with pytest.raises(Psi0Error, match="holds no episodes of a known format"):
        index_raw(str(empty), "auto", 1, target)
    with pytest.raises(Psi0Error, match="format 'rosbag' does not exist"):
        index_raw(str(empty), "rosbag", 1, target)
    with pytest.raises(Psi0Error, match="holds no episode in the format egodex"):
        index_raw(str(empty), "egodex", 1, target)
    raw_layouts.lerobot_2(empty / "a")
    with pytest.raises(Psi0Error, match="holds 1 LeRobot datasets; name one"):
        index_raw(str(empty), "auto", 1, target)
    assert not target.exists()
    target.mkdir(parents=True)
    (target / "index.json").write_text(json.dumps({"schema_version": 7}))
    from psi0.data.source import open_raw

    with pytest.raises(Psi0Error, match="of another version"):
        open_raw(target, ("egodex",))


def test_s3_that_does_not_answer(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from psi0.settings import settings

    monkeypatch.setenv("PSI0_S3_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()
    with pytest.raises(Psi0Error, match=r"s3://raw/egodex: S3 at http://127.0.0.1:9.*PSI0_S3_"):
        index_raw("s3://raw/egodex", "auto", 1, paths.RAW_EGODEX)
