"""Episodes in the layout of Humanoid Everyday: the G1 stands at a table and manipulates, 30 Hz, no walking commands.

Two tasks in turn: picking the can up with the right hand, and reaching beside it with the left. Wrists, finger tips
and the head camera are given in the pelvis frame.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from psi0 import paths
from psi0.params import Camera, Control
from psi0.robot.constants import READY_ARMS
from psi0.robot.layout import ActionPart
from psi0.sim.demonstrators.disturbance import Disturbance
from psi0.sim.demonstrators.pick import PickDemonstrator, PickPlan
from psi0.sim.demonstrators.touch import TouchDemonstrator
from psi0.sim.recorders import measurements
from psi0.sim.recorders.frames import FrameList
from psi0.sim.scene import TABLE_HEIGHT
from psi0.sim.tasks.base import Progress, Start, View
from psi0.sim.tasks.pick_can import CAN_HALF_HEIGHT, PickCan
from psi0.sim.tasks.poses import Poses
from psi0.sim.world import InvalidSeed, World

_STANCE_X, _STANCE_Y, _STANCE_YAW = 0.02, 0.03, 0.06
_NEAREST_TO_TABLE = -0.18
_STEADY = 0.98
"""Episodes in which the pelvis tilts further (cosine) are discarded: a robot that staggers is not standing still."""


class PickStanding(PickCan):
    """The can stands within reach of the right hand."""

    name = "pick_up_the_can"
    seconds = 10.0
    instructions = ("Pick up the can from the table.",)
    start_arms = READY_ARMS
    stance: ClassVar[tuple[float, float]] = (-0.33, 0.17)

    def place(self, view: View, poses: Poses) -> Start:
        """As the task places things, but the robot already stands where it can reach."""
        super().place(view, poses)
        can = view.data.qpos[view.model.joint("can").qposadr[0] :][:2]
        x = min(can[0] + self.stance[0], _NEAREST_TO_TABLE) + poses.uniform(-_STANCE_X, _STANCE_X)
        y = can[1] + self.stance[1] + poses.uniform(-_STANCE_Y, _STANCE_Y)
        return Start(x, y, poses.uniform(-_STANCE_YAW, _STANCE_YAW))


class TouchStanding(PickStanding):
    """The can stands within reach of the left hand, which ends beside it without knocking it over."""

    name = "reach_beside_the_can"
    instructions = ("Reach beside the can with your left hand.",)
    stance: ClassVar[tuple[float, float]] = (-0.33, -0.15)

    def update(self, view: View, progress: Progress, seconds: float) -> None:
        """Nothing ends the episode before its demonstrator does, but a can knocked over."""
        if view.upright("can") < 0.9 or abs(view.position("can")[2] - TABLE_HEIGHT - CAN_HALF_HEIGHT) > 0.02:
            progress.ended = "dropped"


@dataclass(frozen=True)
class Chore:
    """One task of the dataset: its category and folder name, as Humanoid Everyday sorts them."""

    category: str
    task: type[PickStanding]


CHORES = (Chore("basic_manipulation", PickStanding), Chore("basic_manipulation", TouchStanding))


class HumanoidEverydayRecorder:
    """Records the chores in turn by seed; scenes vary as at level L1."""

    def __init__(self, rate: int, camera: Camera, noise: float = 0.5) -> None:
        self._noise = noise
        control = Control(policy_hz=rate)
        self._worlds = [World(chore.task(), control, camera, "L1", paths.ROBOT, render=True) for chore in CHORES]
        self._demonstrators: list[PickDemonstrator | TouchDemonstrator] = [
            PickDemonstrator(self._worlds[0], PickPlan(walks=False, turns=0.0)),
            TouchDemonstrator(self._worlds[1]),
        ]

    def record(self, seed: int, folder: Path) -> dict[str, Any] | None:
        """Write one episode; None when its seed is invalid or the chore failed."""
        index = seed % len(CHORES)
        world, demonstrator = self._worlds[index], self._demonstrators[index]
        try:
            world.reset(seed)
        except InvalidSeed:
            return None
        demonstrator.reset(seed)
        disturbance = Disturbance(world.policy_hz, self._noise, seed)
        frames, outcome, upright = FrameList(folder), None, 1.0
        while outcome is None and demonstrator.phase != "done":
            image = world.head_camera()
            action = world.limits.clip(demonstrator.act(world.observe(image))[0])
            frames.add(everyday_frame(world, action), image)
            outcome = world.step(world.limits.clip(disturbance.disturb(action)))
            upright = min(upright, world.view.upright("pelvis"))
        if demonstrator.phase != "done" and (outcome is None or not outcome.success):
            return None
        if upright < _STEADY:
            return None
        frames.save()
        chore = CHORES[index]
        return {
            "category": chore.category,
            "task": chore.task.name,
            "instruction": world.instruction,
            "frames": len(frames),
        }


def everyday_frame(world: World, action: np.ndarray) -> dict[str, Any]:
    """A frame with the published keys: what is measured now, and the upper-body command of an action `(36,)`."""
    return {
        "time": world.steps / world.policy_hz,
        "states": measurements.states(world),
        "action": {
            "joint_angles": action[ActionPart.UPPER_BODY],
            "wrists": measurements.wrists(world),
            "hands": measurements.finger_tips(world),
        },
        "psi0": {"key_points": world.key_points(), "head_camera": measurements.head_camera_pose(world)},
    }
