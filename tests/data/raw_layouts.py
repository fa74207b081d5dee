"""Small raw episodes in every layout the pipeline reads, made by hand, with known numbers."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from psi0.data.video import REPEATABLE_X264

Frame = dict[str, Any]

RECORDED_AV1 = Path(__file__).parent / "fixtures" / "av1.mp4"
"""`picture(0)` to `picture(59)`, 32 x 24, encoded once by SVT-AV1, every tenth a key frame."""


def picture(step: int, width: int = 32, height: int = 24) -> NDArray[np.uint8]:
    """A smooth picture whose mean brightness tells the step."""
    ramp = np.linspace(0, 60, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return np.clip(ramp + np.array([20, 60, 100]) + 2 * (step % 30), 0, 255).astype(np.uint8)


def joints(step: int, size: int, phase: float = 0.0) -> list[float]:
    """Slow, small motion that stays within the limits of every joint of both Dex3-1 hands and arms."""
    return [0.02 * np.sin(0.2 * step + 0.1 * i + phase) for i in range(size)]


def teleoperation_frame(step: int, rate: float, key_points: int = 0) -> Frame:
    """One frame of G1 teleoperation."""
    frame: Frame = {
        "time": 1000.0 + step / rate,
        "robot_type": "g1",
        "states": {
            "hand_state": joints(step, 14, 0.5),
            "arm_state": joints(step, 14, 1.5),
            "leg_state": joints(step, 15),
            "hand_pressure_state": [],
            "imu": {"quaternion": [1, 0, 0, 0], "rpy": [0, 0, 0]},
            "odometry": {"position": [0, 0, 0.75]},
        },
        "actions": {
            "left_angles": joints(step, 7, 2.0),
            "right_angles": joints(step, 7, 3.0),
            "sol_q": joints(step, 29, 4.0),
            "tau_ff": [0.0] * 29,
            "head_rmat": np.eye(3).tolist(),
            "torso_rpy": [0.01 * step, 0.02, 0.03],
            "torso_height": 0.75 - 0.001 * step,
            "torso_vx": 0.3,
            "torso_vy": 0.1,
            "torso_vyaw": 0.2,
            "torso_dyaw": 0.0,
            "target_yaw": 0.05,
        },
        "image": f"color/frame_{step:06d}.jpg",
        "depth": None,
    }
    if key_points:
        frame["psi0"] = {"key_points": [[0.1 * k, 0.2, 0.3, 0.4, 0.01 * step] for k in range(key_points)]}
    return frame


def write_frame_list(
    folder: Path,
    frames: list[Frame],
    width: int = 32,
    height: int = 24,
    picture_of: Callable[..., Any] = picture,
) -> None:
    """Write `data.json` and `color/` of one episode."""
    (folder / "color").mkdir(parents=True, exist_ok=True)
    for step in range(len(frames)):
        image = Image.fromarray(picture_of(step, width, height))
        image.save(folder / f"color/frame_{step:06d}.jpg", quality=95)
    (folder / "data.json").write_text(json.dumps(frames))


def teleoperation(
    root: Path,
    episodes: int = 3,
    frames: int = 12,
    rate: float = 10,
    key_points: int = 2,
    metadata: bool = True,
) -> Path:
    """A task of G1 teleoperation episodes, as the recorder leaves it (or, without metadata, as one downloads it)."""
    for episode in range(episodes):
        steps = [teleoperation_frame(step, rate, key_points) for step in range(frames + episode)]
        write_frame_list(root / f"episode_{episode}", steps)
    if metadata:
        content = {
            "schema_version": 1,
            "synthetic": True,
            "recorder": "tests",
            "frame_rate": rate,
            "instruction": "pick up the red can",
            "tried": episodes,
            "kept": episodes,
            "seeds": list(range(episodes)),
        }
        (root / "metadata.json").write_text(json.dumps(content))
    return root


def video(
    path: Path,
    frames: int,
    rate: float = 30,
    codec: str = "libx264",
    width: int = 32,
    height: int = 24,
    key_frame_every: int = 12,
) -> None:
    """An MP4 of `picture(0)`, `picture(1)`, ...

    `av1` takes the first packets of a recorded file: SVT-AV1, the one AV1 encoder of PyAV, gives its threads real-time
    priority where it runs as root, and starves everything else on a machine with two cores.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        if codec == "av1":
            _copy_packets(RECORDED_AV1, container, frames, Fraction(rate))
            return
        options = {"x264-params": REPEATABLE_X264} if codec == "libx264" else {}
        stream: Any = container.add_stream(codec, rate=Fraction(rate), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = key_frame_every
        for step in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(step, width, height), format="rgb24")))
        container.mux(stream.encode(None))


def _copy_packets(source: Path, target: Any, frames: int, rate: Fraction) -> None:
    """The first `frames` pictures of a video at another frame rate, without encoding them again."""
    with av.open(str(source)) as recorded:
        stream = target.add_stream_from_template(recorded.streams.video[0], opaque=True)
        stream.time_base = 1 / (rate * 1000)
        packets = [packet for packet in recorded.demux(video=0) if packet.size]
        assert frames <= len(packets), f"{source.name} holds {len(packets)} pictures"
        for number, packet in enumerate(packets[:frames]):
            packet.stream, packet.time_base = stream, stream.time_base
            packet.pts = packet.dts = 1000 * number
            packet.duration = 1000
            target.mux(packet)


def pose(step: int, which: int) -> NDArray[np.float32]:
    """A smooth pose `(4, 4)` of one of the tracked joints (0 is the camera)."""
    angles = 0.05 * step * np.array([0.7, -0.4, 0.5]) + 0.3 * which
    result = np.eye(4)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result[:3, :3] = result[:3, :3] @ turn
    result[:3, 3] = [0.1 * which + 0.01 * step, 0.02 * step * (which % 3), 1 - 0.005 * step * which]
    return result.astype(np.float32)


FINGERS = ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")
EGODEX_JOINTS = (
    "camera",
    "hip",
    *(f"{side}{part}" for side in ("left", "right") for part in ("Hand", *(f"{finger}Tip" for finger in FINGERS))),
)


def egodex_pair(
    folder: Path, number: int, frames: int = 20, codec: str = "libx264", attributes: dict[str, Any] | None = None
) -> None:
    """One `N.hdf5` and `N.mp4`."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{number}.hdf5", "w") as file:
        file["camera/intrinsic"] = np.eye(3, dtype=np.float32)
        for which, joint in enumerate(EGODEX_JOINTS):
            file[f"transforms/{joint}"] = np.stack([pose(step, which) for step in range(frames)])
            file[f"confidences/{joint}"] = np.full(frames, 0.9, np.float32)
        given = (
            {"llm_description": "put the can on the table", "llm_type": "reset"} if attributes is None else attributes
        )
        for key, value in given.items():
            file.attrs[key] = value
    video(folder / f"{number}.mp4", frames, codec=codec)


def egodex(root: Path, episodes: int = 3, frames: int = 20, metadata: bool = True) -> Path:
    """A few EgoDex episodes."""
    for number in range(episodes):
        egodex_pair(root / "test/pick_can", number, frames + number)
    if metadata:
        content = {"schema_version": 1, "synthetic": True, "recorder": "tests", "frame_rate": 30}
        (root / "metadata.json").write_text(json.dumps(content))
    return root


def humanoid_everyday_frame(step: int, rate: float = 30, action_key: str = "action") -> Frame:
    """One frame of Humanoid Everyday on a G1."""
    points = {
        f"{side}_{finger}": {"xyz": [0.01 * step * (i + 1), 0.02 * j, -0.003 * step]}
        for i, side in enumerate(("left", "right"))
        for j, finger in enumerate(("thumb", "index", "middle"))
    }
    wrists = {
        side: {"xyz": [0.01 * step, 0.2 * i, 0.1], "rpy": [0.01 * step, -0.02 * step, 0.03 * step + i]}
        for i, side in enumerate(("left", "right"))
    }
    return {
        "time": 5.0 + step / rate,
        "states": {
            "hand_state": joints(step, 14, 0.5),
            "arm_state": joints(step, 14, 1.5),
            "leg_state": joints(step, 15),
            "robot_type": "g1",
        },
        action_key: {"joint_angles": joints(step, 28, 2.5), "wrists": wrists, "hands": points},
        "image": f"color/frame_{step:06d}.jpg",
    }


def humanoid_everyday(root: Path, episodes: int = 3, frames: int = 20, action_key: str = "action") -> Path:
    """A few Humanoid Everyday episodes, as one downloads them."""
    for episode in range(episodes):
        steps = [humanoid_everyday_frame(step, action_key=action_key) for step in range(frames)]
        write_frame_list(root / f"basic/pick_can/episode_{episode}", steps)
    (root / "task_description_dict.json").write_text(json.dumps({"pick_can": "Pick up the can."}))
    return root


def unitree_frame(step: int, walks: bool = False, hand: str = "ee") -> Frame:
    """One frame of Unitree's xr_teleoperate."""

    def parts(phase: float) -> dict[str, Any]:
        found = {
            f"{side}_{part}": {"qpos": joints(step, 7, phase + i), "qvel": [], "torque": []}
            for i, (side, part) in enumerate([("left", hand), ("right", hand), ("left", "arm"), ("right", "arm")])
        }
        return found | {"body": {"qpos": []}}

    actions = parts(6)
    if walks:
        actions["body"]["qpos"] = [0.3, 0.1, -0.2]
    return {
        "idx": step,
        "colors": {f"color_{i}": f"colors/{step:06d}_color_{i}.jpg" for i in range(2)},
        "depths": {},
        "states": parts(0.5),
        "actions": actions,
    }


def unitree(root: Path, episodes: int = 2, frames: int = 12, rate: float = 30, **more: Any) -> Path:
    """A task recorded by Unitree's xr_teleoperate: `color_1` is black."""
    for episode in range(episodes):
        folder = root / f"episode_{episode:04d}"
        (folder / "colors").mkdir(parents=True, exist_ok=True)
        for step in range(frames):
            Image.fromarray(picture(step)).save(folder / f"colors/{step:06d}_color_0.jpg", quality=95)
            Image.new("RGB", (32, 24)).save(folder / f"colors/{step:06d}_color_1.jpg")
        content = {
            "info": {"version": "1.0.0", "image": {"width": 32, "height": 24, "fps": rate}},
            "text": {"goal": "Pick up the red cup.", "desc": "", "steps": ""},
            "data": [unitree_frame(step, **more) for step in range(frames)],
        }
        (folder / "data.json").write_text(json.dumps(content))
    return root


def lerobot_2(
    root: Path,
    episodes: int = 3,
    frames: int = 15,
    state: str = "states",
    action: str = "actions",
    video_path: str = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    codec: str = "libx264",
    cameras: tuple[str, ...] = ("observation.images.egocentric",),
) -> Path:
    """A LeRobot v2.1 folder as found in the wild: time starts late, names are nested, features are declared in vain."""
    for episode in range(episodes):
        rows = range(frames)
        table = {
            state: [joints(step, 32, episode) for step in rows],
            action: [joints(step, 36, episode + 1) for step in rows],
            "timestamp": pa.array([7 + step / 10 for step in rows], pa.float32()),
            "frame_index": list(rows),
            "episode_index": [episode] * frames,
            "index": [episode * frames + step for step in rows],
            "task_index": [0] * frames,
        }
        path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), path)
        for key in cameras:
            video(root / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4", frames, rate=10, codec=codec)
    features = {
        **{key: {"dtype": "video", "shape": [24, 32, 3], "names": ["height", "width", "channel"]} for key in cameras},
        state: {"dtype": "float32", "shape": [32], "names": {"motors": [[f"motor_{i}" for i in range(32)]]}},
        action: {"dtype": "float32", "shape": [36], "names": None},
        "observation.tactile": {"dtype": "float32", "shape": [99], "names": None},
    }
    info = {
        "codebase_version": "v2.1",
        "robot_type": "g1",
        "fps": 10,
        "chunks_size": 1000,
        "total_episodes": episodes,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": video_path,
        "features": features,
    }
    (root / "meta").mkdir(exist_ok=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "pick up the can"}) + "\n")
    lines = [{"episode_index": i, "tasks": ["pick up the can"], "length": frames} for i in range(episodes)]
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
