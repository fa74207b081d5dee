"""What a task declares: its scene, where things start, what is said, and when it is done."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from psi0.robot.angles import yaw_of
from psi0.robot.constants import CLOSED_LEFT, CLOSED_RIGHT, DEFAULT_ARMS, GRASP_POINT
from psi0.robot.layout import LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS
from psi0.robot.physics import mujoco
from psi0.sim.tasks.choice import Color
from psi0.sim.tasks.poses import Poses

FailureTag = Literal[
    "success",
    "fell",
    "not_reached",
    "not_grasped",
    "dropped",
    "wrong_object",
    "missed_place",
    "limit",
    "invalid_action",
    "timeout",
]
Point = tuple[float, float, float]
HANDS = ("right_hand", "left_hand")
"""What the names of a hand's bodies contain."""
_FINGERS = {"left": (LEFT_HAND_JOINTS, CLOSED_LEFT), "right": (RIGHT_HAND_JOINTS, CLOSED_RIGHT)}
_HALF_CLOSED = 0.5
RAISED = 0.09
"""An object, or a hand that thinks it has one, is raised from here above where it stood [m]."""
_OUT_OF_SIGHT = (-4.0, 2.0)


@dataclass(frozen=True)
class Start:
    """Where the robot stands when an episode begins: x, y [m] and heading [rad] in the world."""

    x: float
    y: float
    yaw: float


@dataclass
class Progress:
    """What a task remembers of an episode, updated once per control step.

    Attributes:
        touched: the robot's hand has touched the object.
        lifted: the object was up in the air, or moved as far as the task calls a beginning.
        farthest: largest distance so far between the object and where it belongs [m].
        misplaced: the object rests, let go of, where it does not belong.
        held_seconds: for how long success has held without a break [s].
    """

    touched: bool = False
    lifted: bool = False
    farthest: float = 0.0
    misplaced: bool = False
    held_seconds: float = 0.0
    ended: FailureTag | None = field(default=None)


class View:
    """A compiled scene as tasks and demonstrators see it: poses and contacts by name."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self.model, self.data = model, data

    def position(self, body: str) -> NDArray[np.float64]:
        """Position `(3,)` of a body [m]."""
        return self.data.body(body).xpos.copy()

    def upright(self, body: str) -> float:
        """Cosine of the angle between a body's z axis and the vertical."""
        return float(self.data.body(body).xmat[8])

    def heading(self, body: str) -> float:
        """Yaw of a body in the world [rad]."""
        return yaw_of(self.data.body(body).xquat)

    def speed(self, body: str) -> float:
        """Linear speed of a free body [m/s]."""
        address = self.model.joint(body).dofadr[0]
        return float(np.linalg.norm(self.data.qvel[address : address + 3]))

    def slid(self, body: str) -> float:
        """How far a body has moved along its slide joint [m]."""
        return float(self.data.qpos[self.model.joint(body).qposadr[0]])

    def place(self, body: str, position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> None:
        """Put a free body, or one that does not move (mocap), somewhere, at rest."""
        mocap = int(self.model.body(body).mocapid[0])
        if mocap >= 0:
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = position, quaternion
            return
        address = self.model.joint(body).qposadr[0]
        self.data.qpos[address : address + 3] = position
        self.data.qpos[address + 3 : address + 7] = quaternion

    def grasp_point(self, side: str) -> NDArray[np.float64]:
        """Point `(3,)` between fingers and thumb of the `left` or `right` hand [m]."""
        wrist = self.data.body(f"{side}_wrist_yaw_link")
        return wrist.xpos + wrist.xmat.reshape(3, 3) @ np.array(GRASP_POINT[side])

    def closed(self, side: str) -> bool:
        """Whether a hand is at least half closed."""
        joints, target = _FINGERS[side]
        now = np.array([self.data.qpos[self.model.joint(joint).qposadr[0]] for joint in joints])
        return float(np.mean((now / np.where(target, target, 1.0))[target != 0.0])) >= _HALF_CLOSED

    def touching(self, body: str, parts: tuple[str, ...]) -> bool:
        """Whether a body touches another one whose name contains one of `parts`."""
        owner = self.model.geom_bodyid
        wanted = self.model.body(body).id
        for first, second in owner[self.data.contact.geom[: self.data.ncon]]:
            other = second if first == wanted else first if second == wanted else None
            if other is not None and any(part in self.model.body(other).name for part in parts):
                return True
        return False


class Task(ABC):
    """One manipulation task. Instances keep no state between episodes; `Progress` does."""

    name: ClassVar[str]
    seconds: ClassVar[float]
    """Longest episode [s]."""
    instructions: ClassVar[tuple[str, ...]]
    """Ways to say it; one is drawn per episode."""
    evaluation_instructions: ClassVar[tuple[str, ...]] = ()
    """More ways to say it, which only episodes of evaluation seeds draw from: nobody trains on them."""
    object_name: ClassVar[str]
    """Body that the task is about."""
    key_point_names: ClassVar[tuple[str, ...]]
    average_place: ClassVar[tuple[float, float, float]]
    average_start: ClassVar[Start]
    """Where the object [m] and the robot start on average: all that a script without vision knows."""
    start_arms: ClassVar[NDArray[np.float64]] = DEFAULT_ARMS
    """Arm pose `(14,)` in which the robot starts [rad]."""
    side_view: ClassVar[tuple[Point, Point]] = ((1.40, -1.70, 1.35), (-0.03, -0.06, 0.67))
    """From where, and at what, the camera for people looks [m]."""
    colors: ClassVar[dict[str, Color]] = {}
    """Geoms by name and the colours that they take; those not named are painted as `psi0.sim.variation` says."""
    choices: ClassVar[dict[str, str]] = {}
    """Where the scene can show two of a kind: the geoms that are meant, each with the other one of its kind."""
    naming_instructions: ClassVar[tuple[str, ...]] = ()
    """Ways to say which of two is meant, with a field in braces for the colour of each geom of `choices`."""
    evaluation_naming_instructions: ClassVar[tuple[str, ...]] = ()
    """More of them, for evaluation seeds only."""

    def __init__(self, objects: int = 1) -> None:
        self.objects = min(objects, 2 if self.choices else 1)
        """How many of a kind the scene shows; a task without `choices` shows one, whatever is asked for."""

    def templates(self, evaluating: bool) -> tuple[str, ...]:
        """Ways to say what is to be done, with fields for colours where there are two of a kind."""
        if self.objects == 1:
            return self.instructions + (self.evaluation_instructions if evaluating else ())
        return self.naming_instructions + (self.evaluation_naming_instructions if evaluating else ())

    @abstractmethod
    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the scene to a specification that holds the robot and the room."""

    @abstractmethod
    def place(self, view: View, poses: Poses) -> Start:
        """Put the objects of a new episode and return where the robot starts."""

    @abstractmethod
    def settled(self, view: View) -> bool:
        """Whether the objects stand still where they should, after the robot has stood for a moment."""

    @abstractmethod
    def key_points(self, view: View) -> NDArray[np.float64]:
        """World positions `(K, 3)` of what matters, the object first [m]."""

    @abstractmethod
    def update(self, view: View, progress: Progress, seconds: float) -> None:
        """Look once per control step of `seconds`; set `progress.ended` when the episode is over."""

    def remove(self, view: View) -> None:
        """Take the object away, out of sight.

        Raises:
            ValueError: this task's object cannot be taken away.
        """
        view.place(self.object_name, np.array([*_OUT_OF_SIGHT, view.position(self.object_name)[2]]), np.eye(4)[0])

    def attempted(self, view: View, first_key_points: NDArray[np.float64]) -> bool:
        """Whether the robot goes through the motion though the object is away.

        Here: a hand is closed and raised, over the table, 9 cm above where it would have grasped.

        Args:
            first_key_points: `key_points` `(K, 3)` before the object was taken away [m].
        """
        height = first_key_points[0, 2] + RAISED
        points = {side: view.grasp_point(side) for side in _FINGERS if view.closed(side)}
        return any(point[0] > 0.0 and point[2] >= height for point in points.values())

    def tag_at_timeout(self, progress: Progress) -> FailureTag:
        """Why an episode that ran out of time failed: how far it came."""
        if not progress.touched:
            return "not_reached"
        if not progress.lifted:
            return "not_grasped"
        return "dropped" if progress.held_seconds == 0 else "timeout"
