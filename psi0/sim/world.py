"""The simulated world in which episodes run: robot, System-0, scene, head camera; one action per control step."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.params import Camera, Control
from psi0.policy import Observation
from psi0.robot.angles import wrapped, yaw_of
from psi0.robot.constants import DEFAULT_ARMS, NOMINAL_HEIGHT
from psi0.robot.layout import ACTION_SIZE, ActionPart
from psi0.robot.limits import load_limits
from psi0.robot.model import HEAD_CAMERA, TORSO, head_camera_field_of_view, robot_spec
from psi0.robot.physics import mujoco
from psi0.robot.system0 import System0
from psi0.robot.system0_folder import load_system0
from psi0.seeds import EVALUATION_SEEDS_START
from psi0.sim.actuation import Body
from psi0.sim.clock import PHYSICS_HZ, ControlClock
from psi0.sim.rendering import Renderer
from psi0.sim.scene import THIRD_PERSON_CAMERA, add_room, quaternion_z
from psi0.sim.tasks import make_task
from psi0.sim.tasks.base import FailureTag, Progress, Start, Task, View
from psi0.sim.tasks.check import compile_task
from psi0.sim.tasks.choice import draw_names
from psi0.sim.tasks.poses import Poses
from psi0.sim.variation import Level, Push, Variation, pose_widening

_SPAWN_HEIGHT = 0.79
_SETTLE_SECONDS = 0.6
_FALLEN_HEIGHT, _FALLEN_UPRIGHT = 0.5, 0.6
_SETTLED_HEIGHT = 0.7
_LARGEST_IMAGE_COORDINATE = 1.5
NO_PICTURE = np.zeros((1, 1, 3), np.uint8)
"""Shown to policies that look at no picture."""
NO_PICTURE.flags.writeable = False


class InvalidSeed(Exception):  # noqa: N818  (a verdict on a seed, not an error)
    """The initial state drawn from a seed does not come to rest as the task wants it; take the next seed."""


@dataclass(frozen=True)
class Outcome:
    """How an episode ended: `tag` is `success` or why not; `detail` says more, for people."""

    success: bool
    tag: FailureTag
    detail: str = ""


def standing_command(arms: NDArray[np.float64] = DEFAULT_ARMS) -> NDArray[np.float64]:
    """Action `(36,)` of a robot that stands still, its arms `(14,)` in a pose [rad]."""
    command = np.zeros(ACTION_SIZE)
    command[ActionPart.ARMS] = arms
    command[ActionPart.HEIGHT] = NOMINAL_HEIGHT
    return command


class World:
    """One task's world. `reset` begins an episode, `step` executes one action; see `make_world`.

    Joint targets, torso and height move linearly from the last action to the new one over a control step; velocities
    and target yaw hold. Actions a little outside the limits are clipped, by more than 0.05 they end the episode. The
    lower body has the servo gains and the stance that its System-0 states; `system0` takes the place of the robot
    folder's.
    """

    def __init__(
        self,
        task: Task,
        control: Control,
        camera: Camera,
        level: Level,
        robot_folder: Path,
        render: bool,
        system0: System0 | None = None,
    ) -> None:
        self.task, self.level, self.robot_folder = task, level, robot_folder
        self.clock = ControlClock(control.policy_hz)
        self.limits = load_limits(robot_folder)
        self._system0 = load_system0(robot_folder) if system0 is None else system0
        spec = robot_spec(robot_folder, self._system0.gains)
        spec.option.timestep = 1.0 / PHYSICS_HZ
        add_room(spec)
        self.model = compile_task(task, spec)
        self.model.cam_fovy[self.model.camera(HEAD_CAMERA).id] = head_camera_field_of_view(camera.height, camera.width)
        self.data = mujoco.MjData(self.model)
        self.view = View(self.model, self.data)
        self.body = Body(self.model, self.data)
        self._variation = Variation(self.model, task, level)
        self._camera = camera
        self._renderer = Renderer(self.model, camera.height, camera.width) if render else None
        self._side_renderers: dict[tuple[int, int, bool], Renderer] = {}
        self.max_steps = math.ceil(task.seconds * control.policy_hz)
        self.steps = 0
        self.instruction, self.other_instruction, self._names = "", "", dict[str, str]()
        self.start = task.average_start
        self.commanded = standing_command()
        self.outcome: Outcome | None = None

    @property
    def policy_hz(self) -> int:
        """Control steps per second."""
        return self.clock.policy_hz

    # Episodes

    def reset(self, seed: int) -> None:
        """Begin the episode of a seed. Raises `InvalidSeed` when its initial state does not settle."""
        poses, looks, words = (np.random.default_rng([seed, stream]) for stream in range(3))
        mujoco.mj_resetData(self.model, self.data)
        self._system0.reset()
        self._say(seed, words)
        self._push: Push | None = self._variation.apply(looks, self._names)
        start = self.task.place(self.view, Poses(poses, pose_widening(self.level)))
        self._put_robot(start)
        self.commanded = standing_command(self.task.start_arms)
        self.progress, self.outcome, self.steps = Progress(), None, 0
        self._settle()
        self._seed, self.start = seed, start
        self._first_key_points = self.task.key_points(self.view)
        self._object_is_away = False
        self._digest = hashlib.sha256(self.data.qpos.tobytes())

    def _say(self, seed: int, words: np.random.Generator) -> None:
        """Draw an instruction and, with two of a kind, their colours; the other instruction means the others."""
        task = self.task
        template = str(words.choice(np.array(task.templates(seed >= EVALUATION_SEEDS_START))))
        choices = task.choices if task.objects > 1 else {}
        self._names = draw_names(words, choices)
        self.instruction = template.format(**{meant: self._names[meant] for meant in choices})
        self.other_instruction = template.format(**{meant: self._names[other] for meant, other in choices.items()})

    def _put_robot(self, start: Start) -> None:
        self.data.qpos[:3] = start.x, start.y, _SPAWN_HEIGHT
        self.data.qpos[3:7] = quaternion_z(start.yaw)
        self.body.set_pose(self._system0.stance, self.task.start_arms)
        mujoco.mj_forward(self.model, self.data)

    def _settle(self) -> None:
        for physics_step in range(round(_SETTLE_SECONDS * PHYSICS_HZ)):
            if self.clock.is_tick(physics_step):
                self._tick(self.commanded)
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        if self.data.qpos[2] < _SETTLED_HEIGHT or self.view.upright("pelvis") < 0.95:
            raise InvalidSeed("the robot does not stand")
        if not self.task.settled(self.view):
            raise InvalidSeed(f"the {self.task.object_name} does not stand still where it was put")

    def step(self, action: NDArray[np.floating]) -> Outcome | None:
        """Execute an action `(36,)` for one control step. Returns the outcome when that ended the episode.

        An episode that has ended may go on; each further step returns its outcome then.
        """
        complaint = self.limits.complaint(action)
        if complaint is not None:
            return self._end("invalid_action", complaint)
        target, before = self.limits.clip(action).astype(np.float64), self.commanded
        for physics_step in range(self.clock.begins(self.steps), self.clock.begins(self.steps + 1)):
            if self.clock.is_tick(physics_step):
                share = self.clock.share_done(physics_step, self.steps)
                command = before + (target - before) * share
                command[ActionPart.WALKING] = target[ActionPart.WALKING]
                self._tick(command)
                self._apply_push(physics_step)
            mujoco.mj_step(self.model, self.data)
        self.commanded = target
        self.steps += 1
        self._digest.update(self.data.qpos.tobytes())
        return self._judge()

    def _tick(self, command: NDArray[np.float64]) -> None:
        lower = self._system0.step(self.body.proprioception(), command[ActionPart.COMMANDS])
        self.body.drive(lower, command[ActionPart.ARMS], command[ActionPart.HANDS])

    def _apply_push(self, physics_step: int) -> None:
        if self._push is not None:
            active = self._push.start <= physics_step / PHYSICS_HZ < self._push.end
            self.data.xfrc_applied[self.model.body(TORSO).id, :3] = self._push.force if active else 0.0

    def _judge(self) -> Outcome | None:
        if not np.isfinite(self.data.qpos).all():
            return self._end("fell", "the simulation diverged")
        if self.data.qpos[2] < _FALLEN_HEIGHT or self.view.upright("pelvis") < _FALLEN_UPRIGHT:
            return self._end("fell", f"pelvis at {self.data.qpos[2]:.2f} m")
        violation = self.body.violation(self.limits)
        if violation is not None:
            return self._end("limit", violation)
        if not self._object_is_away:
            self.task.update(self.view, self.progress, 1.0 / self.policy_hz)
        if self.progress.ended is not None:
            return self._end(self.progress.ended)
        if self.steps >= self.max_steps:
            return self._end(self.task.tag_at_timeout(self.progress))
        return None

    def _end(self, tag: FailureTag, detail: str = "") -> Outcome:
        self.outcome = Outcome(tag == "success", tag, detail)
        return self.outcome

    # What controls change

    def remove_object(self) -> None:
        """Take the task's object away, right after `reset`; from then on the task cannot succeed.

        Raises:
            Psi0Error: this task's object cannot be taken away.
        """
        try:
            self.task.remove(self.view)
        except ValueError as error:
            raise Psi0Error(f"task {self.task.name!r}: its object cannot be taken away: {error}") from None
        mujoco.mj_forward(self.model, self.data)
        self._object_is_away = True

    def attempted(self) -> bool:
        """Whether the robot is going through the motion of its task now, though the object is away."""
        return self._object_is_away and self.task.attempted(self.view, self._first_key_points)

    # What a policy sees

    def head_camera(self) -> NDArray[np.uint8]:
        """RGB `(height, width, 3)` of the head camera now. Needs a world made with `render`."""
        if self._renderer is None:
            raise ValueError("this world was made without rendering")
        return self._renderer.picture(self.data, HEAD_CAMERA)

    def state(self) -> NDArray[np.float32]:
        """`(32,)`: 28 measured joints [rad], last commanded torso [rad] and height [m]."""
        measured = self.body.upper_position()
        return np.concatenate([measured, self.commanded[ActionPart.TORSO_AND_HEIGHT]]).astype(np.float32)

    def observe(self, image: NDArray[np.uint8] = NO_PICTURE) -> Observation:
        """What a policy that answers at every step, without delay, is shown.

        Demonstrators read the simulator's state and look at no picture.
        """
        return Observation(image, self.state(), self.instruction, self.steps, None, 0)

    # What only simulation knows

    def key_points(self) -> NDArray[np.float32]:
        """`(K, 5)`: x, y, z [m] in the torso's frame, x forward, z up; u, v in the head image.

        The torso carries camera and arms, so the image alone says where in its frame a thing is, however the robot
        sways and leans, and the arms need nothing else. u and v run from -1 (left, top) to 1 (right, bottom); outside
        the image they stop at 1.5.
        """
        world_points = self.task.key_points(self.view)
        torso = self.model.body(TORSO).id
        ahead = (world_points - self.data.xpos[torso]) @ self.data.xmat[torso].reshape(3, 3)
        camera = self.model.camera(HEAD_CAMERA).id
        seen = (world_points - self.data.cam_xpos[camera]) @ self.data.cam_xmat[camera].reshape(3, 3)
        focal = 1.0 / np.tan(np.deg2rad(self.model.cam_fovy[camera]) / 2)
        depth = np.maximum(-seen[:, 2], 0.05)
        u = focal * seen[:, 0] / depth * self._camera.height / self._camera.width
        v = -focal * seen[:, 1] / depth
        image = np.clip(np.stack([u, v], axis=1), -_LARGEST_IMAGE_COORDINATE, _LARGEST_IMAGE_COORDINATE)
        return np.concatenate([ahead, image], axis=1).astype(np.float32)

    def object_place(self) -> NDArray[np.float32]:
        """Where the task's object is `(3,)` [m], in the frame of `key_points`, whose first one it is."""
        return self.key_points()[0, :3]

    @property
    def heading(self) -> float:
        """Heading of the pelvis in the world [rad]."""
        return yaw_of(self.data.qpos[3:7])

    @property
    def turned(self) -> float:
        """Heading of the pelvis relative to the episode's start, which `target_yaw` is relative to [rad]."""
        return wrapped(self.heading - self.start.yaw)

    def third_person(self, height: int, width: int, pretty: bool = False) -> NDArray[np.uint8]:
        """RGB `(height, width, 3)` from the side; `pretty` draws shadows, five times as slowly."""
        size = (height, width, pretty)
        if size not in self._side_renderers:
            self._side_renderers[size] = Renderer(self.model, height, width, pretty)
        return self._side_renderers[size].picture(self.data, THIRD_PERSON_CAMERA)

    def qpos_sha256(self) -> str:
        """SHA-256 over all generalised positions of the episode so far, one set per control step."""
        return self._digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """The episode's beginning in words and numbers, for logs and reports."""
        return {
            "task": self.task.name,
            "level": self.level,
            "seed": self._seed,
            "instruction": self.instruction,
            "colors": self._names,
            "robot": {"x": self.start.x, "y": self.start.y, "yaw": self.start.yaw},
            "key_points": dict(zip(self.task.key_point_names, self._first_key_points.round(4).tolist(), strict=True)),
        }

    def close(self) -> None:
        """Free the graphics contexts."""
        for renderer in [self._renderer, *self._side_renderers.values()]:
            if renderer is not None:
                renderer.close()
        self._renderer, self._side_renderers = None, {}


def make_world(
    task: str,
    control: Control,
    camera: Camera,
    level: Level = "L0",
    robot_folder: Path = paths.ROBOT,
    render: bool = True,
    objects: int = 1,
) -> World:
    """The world of a task, ready for `reset`, with `objects` of a kind to choose from where the task has a choice.

    Raises:
        Psi0Error: unknown or broken task, a missing or broken robot folder or System-0, a control rate above 50 Hz,
            or nothing to draw with.
    """
    return World(make_task(task, objects), control, camera, level, robot_folder, render)
