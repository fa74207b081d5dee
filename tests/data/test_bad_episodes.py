"""Every kind of broken input is set aside with its reason; too many of them stop the stage in one message."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_layouts

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.data.index import index_raw
from psi0.data.quality import read_quality
from psi0.data.stage import prepare_demonstrations, prepare_egodex, prepare_humanoid_everyday
from psi0.errors import Psi0Error
from psi0.params import Params

MakeParams = Callable[..., Params]
TASK = "pick_can"


def set_aside(folder: Path) -> dict[str, str]:
    """Reasons by episode name."""
    return {entry.name: entry.reason for entry in read_quality(folder).set_aside}


def truncate(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def edit(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    frames = json.loads(path.read_text())
    frames = change(frames) or frames
    path.write_text(json.dumps(frames))


def in_milliseconds(frames: list[dict[str, Any]]) -> None:
    for step, frame in enumerate(frames):
        frame["time"] = 100.0 * 1000 * step


def stretch(frames: list[dict[str, Any]]) -> None:
    for step, frame in enumerate(frames):
        frame["time"] = step / 25


FRAME_LIST_FAULTS: list[tuple[str, Callable[[Path], Any]]] = [
    ("data.json is missing", lambda folder: (folder / "data.json").unlink()),
    ("data.json is truncated", lambda folder: truncate(folder / "data.json")),
    ("data.json is not a list", lambda folder: (folder / "data.json").write_text('{"a": 1}')),
    ("image frame_000003.jpg is missing", lambda folder: (folder / "color/frame_000003.jpg").unlink()),
    ("frame_000004.jpg cannot be decoded", lambda folder: truncate(folder / "color/frame_000004.jpg")),
    (
        "actions.left_angles holds 6 numbers at frame 2, expected 7",
        lambda folder: edit(folder / "data.json", lambda frames: frames[2]["actions"]["left_angles"].pop() and None),
    ),
    (
        "states.hand_state is missing at frame 5",
        lambda folder: edit(folder / "data.json", lambda frames: frames[5]["states"].pop("hand_state") and None),
    ),
    (
        r"action\[9\] is not a finite number at frame 1",
        lambda folder: edit(
            folder / "data.json", lambda frames: frames[1]["actions"]["right_angles"].__setitem__(2, float("nan"))
        ),
    ),
    (
        "action: left_hand_thumb_1_joint is 1.700 at frame 3, outside",
        lambda folder: edit(
            folder / "data.json", lambda frames: frames[3]["actions"]["left_angles"].__setitem__(1, 1.7)
        ),
    ),
    (
        "time stamps run backwards at frame 7",
        lambda folder: edit(folder / "data.json", lambda frames: frames[7].__setitem__("time", 1000.0)),
    ),
    (
        "wrong frame rate: recorded at 25.0 Hz, the dataset is at 10 Hz",
        lambda folder: edit(folder / "data.json", stretch),
    ),
    ("are the time stamps in seconds?", lambda folder: edit(folder / "data.json", in_milliseconds)),
    ("time is missing", lambda folder: edit(folder / "data.json", lambda frames: frames[7].pop("time") and None)),
    (
        "a hole of 30.0 s after frame 6",
        lambda folder: edit(
            folder / "data.json",
            lambda frames: [frame.__setitem__("time", frame["time"] + 29.9) for frame in frames[7:]] and None,
        ),
    ),
    (
        r"cannot be read \(ValueError: .*inhomogeneous",
        lambda folder: edit(
            folder / "data.json", lambda frames: frames[2]["actions"].__setitem__("left_angles", [[1], [1, 2]])
        ),
    ),
    ("holds 1 frames", lambda folder: edit(folder / "data.json", lambda frames: frames[:1])),
    (
        "its columns differ from the first episode's: observation.key_points",
        lambda folder: edit(folder / "data.json", lambda frames: [frame.pop("psi0") for frame in frames] and None),
    ),
]


@pytest.mark.parametrize(("reason", "spoil"), FRAME_LIST_FAULTS, ids=[reason for reason, _ in FRAME_LIST_FAULTS])
def test_bad_teleoperation(reason: str, spoil: Callable[[Path], Any], workspace: Path, params: MakeParams) -> None:
    import re

    root = raw_layouts.teleoperation(paths.raw_demonstrations(TASK))
    spoil(root / "episode_1")
    prepare_demonstrations(params(), TASK)
    reasons = set_aside(paths.prepared_demonstrations(TASK))
    assert list(reasons) == ["episode_1"] and re.search(reason, reasons["episode_1"]), reasons
    dataset = LeRobotDataset(paths.prepared_demonstrations(TASK))
    assert dataset.episodes == [(0, 12), (12, 26)] and len(dataset.images(range(26))) == 26


def test_an_error_without_text_is_still_named() -> None:
    from psi0.data.episode import BadEpisode, in_short, or_bad_episode

    assert in_short(ValueError("")) == "ValueError" and in_short(OSError(2, "No such file")) == "No such file"
    with pytest.raises(BadEpisode, match="KeyError"), or_bad_episode():
        {}["nothing"]


def h5_edit(change: Callable[[h5py.File], Any]) -> Callable[[Path], Any]:
    def spoil(stem: Path) -> None:
        with h5py.File(stem.with_suffix(".hdf5"), "a") as file:
            change(file)

    return spoil


def spoil_transform(file: h5py.File, value: float) -> None:
    file["transforms/leftHand"][4, 0, 0] = value


def misshape(file: h5py.File) -> None:
    del file["transforms/rightThumbTip"]
    file["transforms/rightThumbTip"] = np.zeros((21, 3), np.float32)


def shorten(file: h5py.File) -> None:
    whole = file["transforms/rightHand"][()]
    del file["transforms/rightHand"]
    file["transforms/rightHand"] = whole[:-4]


def in_millimetres(file: h5py.File) -> None:
    for name, entry in file["transforms"].items():
        if name != "camera":
            entry[:, :3, 3] *= 1000


def squash(file: h5py.File) -> None:
    file["transforms/rightHand"][5, :3, :3] *= 0.5


EGODEX_FAULTS: list[tuple[str, Callable[[Path], Any]]] = [
    ("1.mp4 (the video) is missing", lambda stem: stem.with_suffix(".mp4").unlink()),
    ("1.hdf5 (the poses) is missing", lambda stem: stem.with_suffix(".hdf5").unlink()),
    ("1.mp4 cannot be", lambda stem: truncate(stem.with_suffix(".mp4"))),
    ("1.mp4 cannot be opened", lambda stem: stem.with_suffix(".mp4").write_bytes(b"")),
    ("1.hdf5 is truncated or no HDF5 file", lambda stem: truncate(stem.with_suffix(".hdf5"))),
    ("transforms/leftHand is missing", h5_edit(lambda file: file.__delitem__("transforms/leftHand"))),
    ("transforms/rightThumbTip has shape (21, 3)", h5_edit(misshape)),
    ("rightHand holds 17 frames, the episode 21", h5_edit(shorten)),
    ("leftHand[0] is not a finite number at frame 4", h5_edit(lambda file: spoil_transform(file, np.nan))),
    ("m from the camera; are the transforms in metres?", h5_edit(in_millimetres)),
    ("transforms/rightHand is no rotation at frame 5", h5_edit(squash)),
    ("the video holds 12 frames, the numbers 21", lambda stem: raw_layouts.video(stem.with_suffix(".mp4"), 12)),
    ("the video holds more frames than", lambda stem: raw_layouts.video(stem.with_suffix(".mp4"), 40)),
    ("wrong frame rate: recorded at 60.0 Hz", lambda stem: raw_layouts.video(stem.with_suffix(".mp4"), 21, rate=60)),
]


@pytest.mark.parametrize(("reason", "spoil"), EGODEX_FAULTS, ids=[reason for reason, _ in EGODEX_FAULTS])
def test_bad_egodex(reason: str, spoil: Callable[[Path], Any], workspace: Path, params: MakeParams) -> None:
    spoil(raw_layouts.egodex(paths.RAW_EGODEX) / "test/pick_can/1")
    prepare_egodex(params())
    reasons = set_aside(paths.PREPARED_EGODEX)
    assert list(reasons) == ["test/pick_can/1"] and reason in reasons["test/pick_can/1"], reasons


def test_rows_without_a_tracked_wrist_are_not_valid(workspace: Path, params: MakeParams) -> None:
    raw_layouts.egodex(paths.RAW_EGODEX, episodes=2)
    for episode, lost in enumerate((slice(10, 12), slice(None))):
        with h5py.File(paths.RAW_EGODEX / f"test/pick_can/{episode}.hdf5", "a") as file:
            file["confidences/rightHand"][lost] = 0
    prepare_egodex(params())
    valid = LeRobotDataset(paths.PREPARED_EGODEX).column("action.valid").ravel()
    assert np.flatnonzero(valid[:20] == 0).tolist() == [7, 8, 10, 11, 17, 18, 19] and not valid[20:].any()
    shares = [entry.notes["tracked_share"] for entry in read_quality(paths.PREPARED_EGODEX).kept]
    assert shares == [0.9, 0]


def test_a_video_one_frame_short_is_used(workspace: Path, params: MakeParams) -> None:
    raw_layouts.egodex(paths.RAW_EGODEX)
    raw_layouts.video(paths.RAW_EGODEX / "test/pick_can/1.mp4", 20)
    prepare_egodex(params())
    assert set_aside(paths.PREPARED_EGODEX) == {}
    assert LeRobotDataset(paths.PREPARED_EGODEX).episodes == [(0, 20), (20, 40), (40, 62)]


def in_parts_of_an_h1(frames: list[dict[str, Any]]) -> None:
    for frame in frames:
        frame["states"].pop("robot_type")
        frame["states"]["hand_state"] = frame["states"]["hand_state"][:12]
        frame["actions"] = {"left_angles": [0.0] * 12, "right_angles": [0.0] * 12, "sol_q": [0.0] * 14}
        del frame["action"]


def test_episodes_of_an_h1_do_not_count_as_bad(workspace: Path, params: MakeParams) -> None:
    root = raw_layouts.humanoid_everyday(paths.RAW_HUMANOID_EVERYDAY, episodes=4)

    def to_h1(frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            frame["states"].pop("robot_type")
            frame["action"]["joint_angles"] = frame["action"]["joint_angles"][:26]

    edit(root / "basic/pick_can/episode_1/data.json", to_h1)
    edit(
        root / "basic/pick_can/episode_2/data.json",
        lambda frames: [frame["states"].__setitem__("robot_type", "H1") for frame in frames] and None,
    )
    edit(root / "basic/pick_can/episode_3/data.json", in_parts_of_an_h1)
    prepare_humanoid_everyday(params(prepare={"max_bad_share": 0.0}))
    report = read_quality(paths.PREPARED_HUMANOID_EVERYDAY)
    assert [entry.category for entry in report.set_aside] == ["other_robot"] * 3 and report.bad_share == 0
    assert "26" in report.set_aside[0].reason and "H1" in report.set_aside[1].reason


def test_too_many_bad_episodes_stop_the_stage(workspace: Path, params: MakeParams) -> None:
    root = raw_layouts.teleoperation(paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    before = (paths.prepared_demonstrations(TASK) / "metrics.json").read_text()
    truncate(root / "episode_1/data.json")
    with pytest.raises(Psi0Error) as caught:
        prepare_demonstrations(params(prepare={"max_bad_share": 0.1}), TASK)
    message = str(caught.value)
    assert (
        "33%" in message
        and "prepare.max_bad_share is 10%" in message
        and "episode_1: data.json is truncated" in message
    )
    assert (paths.prepared_demonstrations(TASK) / "metrics.json").read_text() == before
    for episode in (0, 2):
        truncate(root / f"episode_{episode}/data.json")
    with pytest.raises(Psi0Error, match=r"cannot be told from episode_0/data.json and 2 more \(empty, truncated"):
        prepare_demonstrations(params(), TASK)


def test_show_names_what_was_set_aside(workspace: Path, params: MakeParams, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from psi0.cli import app

    root = raw_layouts.teleoperation(paths.raw_demonstrations(TASK))
    truncate(root / "episode_1/data.json")
    prepare_demonstrations(params(), TASK)
    shown = CliRunner().invoke(app, ["data", "show", str(paths.prepared_demonstrations(TASK))], env={"COLUMNS": "160"})
    assert shown.exit_code == 0
    for part in ("2, 12 to 14 frames", "10 Hz", "32x24", "pick up the red can", "episode_1", "data.json is truncated"):
        assert part in shown.output, part
    assert "velocity_x" in shown.output and "never moves" in shown.output


def test_rates_that_do_not_divide(workspace: Path, params: MakeParams) -> None:
    raw_layouts.teleoperation(paths.raw_demonstrations(TASK), rate=25)
    with pytest.raises(Psi0Error, match=r"recorded at 25 Hz.*control.policy_hz"):
        prepare_demonstrations(params(), TASK)


def test_missing_raw_data(workspace: Path, params: MakeParams) -> None:
    with pytest.raises(Psi0Error, match=r"data/raw/egodex is missing.*dvc repro"):
        prepare_egodex(params())
    paths.RAW_EGODEX.mkdir(parents=True)
    with pytest.raises(Psi0Error, match="no episodes of a known format"):
        prepare_egodex(params())
    raw_layouts.teleoperation(paths.RAW_EGODEX)
    with pytest.raises(Psi0Error, match="in the format teleoperation; this dataset takes egodex"):
        prepare_egodex(params())


def replace_table(root: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = root / "data/chunk-000/episode_000001.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def late_null(table: pa.Table) -> pa.Table:
    values = table.column("states").to_pylist()
    values[3] = None
    return table.drop_columns(["states"]).append_column("states", pa.array(values))


def untold(root: Path) -> None:
    path = root / "meta/episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1] |= {"tasks": [""], "instruction": " "}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    replace_table(root, lambda table: table.drop_columns(["task_index"]))


LEROBOT_FAULTS: list[tuple[str, Callable[[Path], Any]]] = [
    ("episode_000001.parquet is truncated", lambda root: truncate(root / "data/chunk-000/episode_000001.parquet")),
    ("the data file of episode 1 is missing", lambda root: (root / "data/chunk-000/episode_000001.parquet").unlink()),
    ("the video of observation.images.egocentric is missing", lambda root: next(root.rglob("*_000001.mp4")).unlink()),
    ("episode_000001.mp4 cannot be decoded", lambda root: truncate(next(root.rglob("*_000001.mp4")))),
    ("no column action; the file has states", lambda root: replace_table(root, lambda t: t.drop_columns(["actions"]))),
    ("states cannot be read", lambda root: replace_table(root, late_null)),
    ("has no instruction", lambda root: untold(root)),
    ("the video holds 12 frames, the numbers 15", lambda root: raw_layouts.video(next(root.rglob("*_000001.mp4")), 12)),
    ("holds no rows", lambda root: replace_table(root, lambda table: table.slice(0, 0))),
]


@pytest.mark.parametrize(("reason", "spoil"), LEROBOT_FAULTS, ids=[reason for reason, _ in LEROBOT_FAULTS])
def test_bad_lerobot(reason: str, spoil: Callable[[Path], Any], workspace: Path, params: MakeParams) -> None:
    root = raw_layouts.lerobot_2(workspace / "downloaded")
    spoil(root)
    index_raw(str(root), "auto", 80, paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    reasons = set_aside(paths.prepared_demonstrations(TASK))
    assert list(reasons) == ["episode_000001"] and reason in reasons["episode_000001"], reasons


def test_bad_prepared_datasets_are_named(workspace: Path, params: MakeParams) -> None:
    raw_layouts.teleoperation(paths.raw_demonstrations(TASK))
    prepare_demonstrations(params(), TASK)
    folder = paths.prepared_demonstrations(TASK)
    with pytest.raises(Psi0Error, match=r"no column 'torque'; it has observation.state"):
        LeRobotDataset(folder).column("torque")
    with pytest.raises(Psi0Error, match=r"has no camera wrist; it has observation.images.egocentric"):
        LeRobotDataset(folder, camera="wrist").images([0])
    video = next(folder.rglob("*.mp4"))
    content = video.read_bytes()
    truncate(video)
    with pytest.raises(Psi0Error, match=r"file-000\.mp4"):
        LeRobotDataset(folder).images([0])
    video.unlink()
    with pytest.raises(Psi0Error, match=r"video chunk 0, file 0 of .*egocentric is missing"):
        LeRobotDataset(folder).images([0])
    video.write_bytes(content)
    truncate(folder / "data/chunk-000/file-000.parquet")
    with pytest.raises(Psi0Error, match=r"file-000.parquet is truncated"):
        LeRobotDataset(folder).column("action")
    (folder / "meta/info.json").unlink()
    with pytest.raises(Psi0Error, match=r"info.json is missing"):
        LeRobotDataset(folder)
    (folder / "quality.json").write_text('{"schema_version": 9}')
    with pytest.raises(Psi0Error, match=r"schema_version 9, this psi0 reads 1"):
        read_quality(folder)
