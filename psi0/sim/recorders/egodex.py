"""Egocentric video of human hands in the layout of EgoDex: `test/<task>/<N>.hdf5` with poses, `<N>.mp4` with video.

The hands are capsules moved along smooth paths, the objects follow the hand that holds them, and the head, with its
camera, moves a little: no physics. World axes are ARKit's (y up); the camera's frame has x right, y down, z forward,
which is what `camera/intrinsic` assumes. Joint frames: see `psi0.sim.recorders.skeleton`.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psi0.data.video import VideoFormat, encode
from psi0.params import Camera
from psi0.robot.physics import mujoco
from psi0.sim.recorders.gestures import HandMotion
from psi0.sim.recorders.skeleton import Pose, body_joints, bones, hand_joints, joint_names
from psi0.sim.rendering import Capsule, Renderer
from psi0.sim.scene import TABLE_HEIGHT, add_bystander, add_room, add_table
from psi0.sim.tasks.base import View
from psi0.sim.variation import random_color

_FIELD_OF_VIEW = 72.5
"""Vertical [degrees]: that of EgoDex's 1920x1080 video with its focal length of 736.6 pixels."""
_OBJECTS = {
    "can": ("cylinder", (0.033, 0.033, 0.06), (-0.02, 0.03)),
    "blue cup": ("cylinder", (0.036, 0.036, 0.045), (0.55, 0.62)),
    "green cup": ("cylinder", (0.036, 0.036, 0.045), (0.30, 0.38)),
    "carton": ("box", (0.035, 0.05, 0.07), (0.1, 0.9)),
}
_CLEARANCE = 0.14
_Y_UP = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
_SKIN_HUE = (0.04, 0.09)


@dataclass
class Hold:
    """An object that follows a hand from one time to another [s]."""

    name: str
    side: str
    start: float
    end: float


@dataclass
class Script:
    """One episode before it is drawn."""

    task: str
    description: str
    reverse: str
    verb: str
    objects: str
    hands: dict[str, HandMotion]
    holds: list[Hold]
    seconds: float


class EgoDexRecorder:
    """Records three tasks in turn by seed: picking up a can, moving a cup, bringing two cups together."""

    def __init__(self, rate: int, camera: Camera) -> None:
        self._rate, self._camera = rate, camera
        spec = mujoco.MjSpec()
        add_room(spec)
        add_table(spec)
        for name, (shape, size, _) in _OBJECTS.items():
            add_bystander(spec, name, shape, size)
        eyes = spec.worldbody.add_body(name="eyes", mocap=True)
        eyes.add_camera(name="eyes", fovy=_FIELD_OF_VIEW)
        spec.visual.quality.numslices, spec.visual.quality.numstacks = 10, 6
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._view = View(self._model, self._data)
        self._renderer = Renderer(self._model, camera.height, camera.width)

    def record(self, seed: int, folder: Path) -> dict[str, Any] | None:
        """Write one pair of files, `episode.hdf5` and `episode.mp4`."""
        random = np.random.default_rng([seed, 3])
        places = self._place_objects(random)
        skin = self._paint(random)
        script = (pick_up_can, move_cup, bring_cups_together)[seed % 3](places, random)
        head = _Head(random)
        poses: dict[str, list[Pose]] = {name: [] for name in ("camera", *joint_names())}
        images = []
        for frame in range(round(script.seconds * self._rate)):
            time = frame / self._rate
            hands = {side: motion.at(time) for side, motion in script.hands.items()}
            joints = body_joints(head.position(time), {side: wrist for side, (wrist, _) in hands.items()})
            for side, (wrist, curl) in hands.items():
                joints |= hand_joints(side, wrist, curl)
            joints["camera"] = head.pose(time, np.mean([wrist[:3, 3] for wrist, _ in hands.values()], axis=0))
            for name, pose in joints.items():
                poses[name].append(_Y_UP @ pose)
            self._move_objects(script, places, time)
            images.append(self._draw(joints, skin))
        stacked = {name: np.array(series, np.float32) for name, series in poses.items()}
        self._write(folder, script, stacked, images, seed)
        return {"task": script.task, "instruction": script.description, "frames": len(images)}

    def _place_objects(self, random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        places: dict[str, NDArray[np.float64]] = {}
        for name, (_, size, _) in _OBJECTS.items():
            while True:
                spot = np.array([random.uniform(0.10, 0.34), random.uniform(-0.28, 0.28), TABLE_HEIGHT + size[2]])
                if all(np.linalg.norm((spot - other)[:2]) > _CLEARANCE for other in places.values()):
                    break
            places[name] = spot
        return places

    def _paint(self, random: np.random.Generator) -> list[float]:
        model = self._model
        model.mat_rgba[0] = random_color(random, (0.0, 1.0), (0.1, 0.5), (0.35, 0.7))
        table = random_color(random, (0.03, 0.14), (0.15, 0.6), (0.4, 0.85))
        for index in range(model.ngeom):
            name = model.geom(index).name
            if name.startswith("table"):
                model.geom_rgba[index] = table
            elif name in _OBJECTS:
                model.geom_rgba[index] = random_color(random, _OBJECTS[name][2], (0.6, 1.0), (0.5, 0.9))
        return random_color(random, _SKIN_HUE, (0.3, 0.6), (0.35, 0.9))

    def _move_objects(self, script: Script, places: dict[str, NDArray[np.float64]], time: float) -> None:
        for name, place in places.items():
            self._view.place(name, place, np.array([1.0, 0.0, 0.0, 0.0]))
        for hold in script.holds:
            moved = min(max(time, hold.start), hold.end)
            hand = script.hands[hold.side]
            shift = hand.at(moved)[0][:3, 3] - hand.at(hold.start)[0][:3, 3]
            self._view.place(hold.name, places[hold.name] + shift, np.array([1.0, 0.0, 0.0, 0.0]))

    def _draw(self, joints: dict[str, Pose], skin: list[float]) -> NDArray[np.uint8]:
        camera = joints["camera"]
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, (camera[:3, :3] @ np.diag([1.0, -1.0, -1.0])).flatten())
        self._view.place("eyes", camera[:3, 3], quaternion)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        flesh = [
            Capsule(joints[start][:3, 3], joints[end][:3, 3], radius, skin)
            for side in ("left", "right")
            for start, end, radius in bones(side)
        ]
        return self._renderer.picture(self._data, "eyes", flesh)

    def _intrinsic(self) -> NDArray[np.float32]:
        width, height = self._camera.width, self._camera.height
        focal = height / 2 / np.tan(np.deg2rad(_FIELD_OF_VIEW) / 2)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)

    def _write(
        self,
        folder: Path,
        script: Script,
        poses: dict[str, NDArray[np.float32]],
        images: list[NDArray[np.uint8]],
        seed: int,
    ) -> None:
        # The oldest file format of HDF5 stores no times; h5py's data sets store none unless asked.
        with h5py.File(folder / "episode.hdf5", "w", libver=("earliest", "v108")) as file:
            file.create_dataset("camera/intrinsic", data=self._intrinsic(), track_times=False)
            for name, series in poses.items():
                file.create_dataset(f"transforms/{name}", data=series, track_times=False)
                if name != "camera":
                    confidence = np.full(len(series), 0.9, np.float32)
                    file.create_dataset(f"confidences/{name}", data=confidence, track_times=False)
            file.attrs.update(
                {
                    "llm_description": script.description,
                    "llm_description2": script.reverse,
                    "which_llm_description": "1",
                    "llm_type": "reversible",
                    "llm_verbs": script.verb,
                    "llm_objects": script.objects,
                    "environment": "simulated table",
                    "object": script.objects,
                    "session_name": f"synthetic_{seed}",
                    "annotated": True,
                    "annotator_version": "synthetic",
                }
            )
        form = VideoFormat(self._camera.width, self._camera.height, Fraction(self._rate))
        (folder / "episode.mp4").write_bytes(encode(images, form))


class _Head:
    """A head that sways and looks at the hands' neighbourhood."""

    def __init__(self, random: np.random.Generator) -> None:
        self._home = np.array([-0.22, 0.0, 1.24]) + random.normal(0, 0.03, 3)
        self._gaze = np.array([0.20, 0.0, 0.76]) + random.normal(0, 0.02, 3)
        self._rate, self._phase = random.uniform(0.1, 0.5, 3), random.uniform(0, 2 * np.pi, 3)

    def position(self, time: float) -> NDArray[np.float64]:
        """`(3,)` [m]."""
        return self._home + 0.015 * np.sin(2 * np.pi * self._rate * time + self._phase)

    def pose(self, time: float, hands: NDArray[np.float64]) -> Pose:
        """Camera pose `(4, 4)`, x right, y down, z forward, when the hands' middle is at `hands` `(3,)`."""
        position = self.position(time)
        forward = self._gaze + 0.25 * (hands - self._gaze) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = np.stack([right, np.cross(forward, right), forward], axis=1), position
        return pose


def _two_hands(random: np.random.Generator) -> dict[str, HandMotion]:
    return {side: HandMotion(side, 0.0, random) for side in ("left", "right")}


def _pace(random: np.random.Generator) -> float:
    return float(random.uniform(0.8, 1.25))


def _finish(hands: dict[str, HandMotion]) -> float:
    return max(hand.now for hand in hands.values()) + 0.2


def pick_up_can(places: dict[str, NDArray[np.float64]], random: np.random.Generator) -> Script:
    """The right hand grasps the can and lifts it."""
    hands, pace = _two_hands(random), _pace(random)
    hand, can = hands["right"], places["can"]
    hand.wait(random.uniform(0.1, 0.4))
    hand.reach(can, 1.3 * pace)
    hand.close(0.6, 0.4 * pace)
    start = hand.now
    hand.carry(can + np.array([-0.04, 0.0, 0.16]), 0.9 * pace)
    hand.wait(0.3)
    return Script(
        "pick_up_can",
        "Pick up the can with the right hand.",
        "Put the can down on the table.",
        "pick up",
        "can",
        hands,
        [Hold("can", "right", start, hand.now + 1.0)],
        _finish(hands),
    )


def move_cup(places: dict[str, NDArray[np.float64]], random: np.random.Generator) -> Script:
    """The hand on its side moves one of the cups elsewhere and lets go."""
    hands, pace = _two_hands(random), _pace(random)
    name = str(random.choice(np.array(["blue cup", "green cup"])))
    side = "left" if places[name][1] > 0 else "right"
    hand, cup = hands[side], places[name]
    target = cup + np.array([random.uniform(-0.06, 0.08), random.uniform(-0.1, 0.1), 0.0])
    hand.wait(random.uniform(0.1, 0.4))
    hand.reach(cup, 1.2 * pace)
    hand.close(0.6, 0.35 * pace)
    start = hand.now
    hand.carry((cup + target) / 2 + np.array([0.0, 0.0, 0.08]), 0.5 * pace)
    hand.carry(target, 0.5 * pace)
    end = hand.now
    hand.close(0.15, 0.3 * pace)
    hand.withdraw(0.9 * pace)
    return Script(
        "move_cup",
        f"Move the {name} to another place with the {side} hand.",
        f"Move the {name} back with the {side} hand.",
        "move",
        "cup",
        hands,
        [Hold(name, side, start, end)],
        _finish(hands),
    )


def bring_cups_together(places: dict[str, NDArray[np.float64]], random: np.random.Generator) -> Script:
    """Both hands take a cup each and bring them together in the middle."""
    hands, pace = _two_hands(random), _pace(random)
    left, right = sorted(("blue cup", "green cup"), key=lambda name: -places[name][1])
    middle = (places[left] + places[right]) / 2
    holds = []
    for side, name, offset in (("left", left, 0.05), ("right", right, -0.05)):
        hand, cup = hands[side], places[name]
        hand.wait(random.uniform(0.1, 0.5))
        hand.reach(cup, 1.3 * pace)
        hand.close(0.6, 0.35 * pace)
        start = hand.now
        hand.carry(middle + np.array([0.0, offset, 0.03]), 0.8 * pace)
        hand.carry(middle + np.array([0.0, offset, 0.0]), 0.2 * pace)
        holds.append(Hold(name, side, start, hand.now))
        hand.close(0.15, 0.3 * pace)
        hand.withdraw(0.8 * pace)
    return Script(
        "bring_cups_together",
        "Bring the two cups together with both hands.",
        "Move the two cups apart with both hands.",
        "bring together",
        "cup, cup",
        hands,
        holds,
        _finish(hands),
    )
