"""Walk up behind the cart, take both grips, steer it round the bend into the bay, stop."""

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.angles import wrapped
from psi0.robot.constants import CLOSED_LEFT, CLOSED_RIGHT, NOMINAL_HEIGHT, OPEN_LEFT, OPEN_RIGHT
from psi0.sim.demonstrators.astray import ASTRAY_SHARE, draw_astray
from psi0.sim.demonstrators.motion import Hand, action, approach, error_to, walking_velocity
from psi0.sim.demonstrators.phases import Phased, Walking
from psi0.sim.demonstrators.style import Style, draw_style
from psi0.sim.furniture import GRIP_HEIGHT, GRIP_X, GRIP_Y, on_floor
from psi0.sim.scene import rotation_z
from psi0.sim.world import World

_FINGER_SPEED, _FOLLOW_SPEED = 3.0, 1.0
_BEHIND = 0.34
"""From the pelvis to the grips while they are held [m]."""
HELD_BEFORE = _BEHIND - GRIP_X
"""From the pelvis to the cart's middle while it is held [m]."""
_HAND_YAW = 0.25
_OUT, _BESIDE = np.array([0.12, 0.36, 0.0]), np.array([-0.06, 0.10, 0.0])
_STAND_SECONDS, _GRIP_SECONDS, _LARGEST_MISS = 0.5, 0.75, 0.06
_BEND_GAIN, _STEEPEST, _STEER_GAIN = 2.5, 0.8, 2.2
_STEADY_SECONDS = 0.4
"""Over which it takes the mean of what it sees: it sways with every stride, and does not steer against that."""
_FASTEST, _SLOWEST, _FASTEST_TURN = 0.55, 0.30, 0.75
_STOP_BEFORE, _DRIVE_AGAIN = 0.03, 0.10
_OFF_LINE, _ASKEW = 0.13, 0.22
"""A cart that ends farther off, or turned further, is pulled back and steered in anew [m, rad]."""
_PULL_SPEED, _PULL_TO, _PULL_SECONDS = -0.7, 0.35, 12.0
_MISSED_BY = (0.12, 0.22)
"""How far off the line it drives in by mistake [m]."""

Pose = tuple[NDArray[np.float64], float]
"""Position on the floor `(2,)` [m] and yaw [rad]."""


class PushDemonstrator(Phased):
    """Phases `raise, walk, stand, reach, grasp, grip, drive, stop`; back to `walk` when the grips turn out of reach,
    and from `stop` to `pull` when the cart stands askew.

    It raises its hands, wide apart, before it walks: raised beside the cart they shove it.

    Driving follows the line through the bay along its heading: the farther off the line, the steeper towards it,
    which makes an arc.
    """

    privileged = True

    def __init__(self, world: World) -> None:
        self._hands = (Hand(world.robot_folder, "left"), Hand(world.robot_folder, "right"))
        super().__init__(world)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin anew, in the style of this seed."""
        self._style: Style = draw_style(seed)
        self._arms = self._world.task.start_arms.copy()
        self._fingers = np.concatenate([OPEN_LEFT, OPEN_RIGHT])
        self._missed = 0.0
        self._steer = 0.0
        self._begin("raise")

    def misjudge(self, random: np.random.Generator) -> None:
        """Walk to a wrong place first, or drive in beside the bay's line."""
        if random.random() < ASTRAY_SHARE:
            self._astray = draw_astray(random)
        else:
            self._missed = random.choice((-1.0, 1.0)) * random.uniform(*_MISSED_BY)

    @property
    def misjudging(self) -> bool:
        """Whether the mistake is still being made."""
        return super().misjudging or self._missed != 0.0

    # Where things are

    def _cart(self) -> Pose:
        return self._world.view.position("cart")[:2], self._world.view.heading("cart")

    def _mark(self) -> Pose:
        return self._world.view.position("mark")[:2], self._world.view.heading("mark")

    def _grips(self) -> NDArray[np.float64]:
        """Where the hands go `(2, 3)`, left first [m]; how high differs with style."""
        position, yaw = self._cart()
        height = GRIP_HEIGHT + 0.03 * self._style.side
        return on_floor((position[0], position[1]), yaw, np.array([[GRIP_X, y, height] for y in (GRIP_Y, -GRIP_Y)]))

    def _error(self) -> tuple[NDArray[np.float64], float]:
        position, yaw = self._cart()
        behind, turn = np.array([GRIP_X - _BEHIND, 0.0]), 0.0
        if self._astray is not None:
            # Never nearer than it should stand: there is the cart.
            behind, turn = behind + np.minimum(self._astray.offset, [0.0, np.inf]), self._astray.turn
        return error_to(self._world, position + rotation_z(yaw)[:2, :2] @ behind, yaw + turn)

    # Phases

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action `(1, 36)`."""
        velocity, target_yaw = self._do_phase()
        return action(self._fingers, self._arms, NOMINAL_HEIGHT, velocity, target_yaw)[None]

    def _bring(self, goals: NDArray[np.float64], speed: float) -> float:
        """Move both hands towards `goals` `(2, 3)`; the larger distance left [m]."""
        left = []
        for hand, goal, sign in zip(self._hands, goals, (-1.0, 1.0), strict=True):
            rotation = rotation_z(self._world.heading + sign * _HAND_YAW)
            left.append(hand.move(self._world, goal, rotation, speed))
        self._arms = np.concatenate([hand.joints for hand in self._hands])
        return max(left)

    def _beside(self, offset: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each point moved by an offset along the heading that is given for the left hand `(2, 3)` [m]."""
        mirrored = np.array([offset, offset * np.array([1.0, -1.0, 1.0])])
        return points + mirrored @ rotation_z(self._world.heading).T

    def _keep_out(self, speed: float) -> float:
        """Hands open, wide apart beside the body; the larger distance left [m]."""
        opened = np.concatenate([OPEN_LEFT, OPEN_RIGHT])
        self._fingers = approach(self._fingers, opened, _FINGER_SPEED / self._world.policy_hz)
        pelvis = np.array([*self._world.data.qpos[:2], GRIP_HEIGHT + 0.03 * self._style.side])
        return self._bring(self._beside(_OUT, np.tile(pelvis, (2, 1))), speed)

    def _raise(self) -> Walking:
        if self._world.steps == self._since:
            for hand, joints in zip(self._hands, (self._arms[:7], self._arms[7:]), strict=True):
                hand.start_from(self._world, joints)
        if self._held(self._keep_out(0.45 * self._style.pace) < 0.01) or self._seconds() > 2.0:
            self._enter("walk")
        return np.zeros(3)

    def _walk(self) -> Walking:
        self._keep_out(_FOLLOW_SPEED)
        ahead, turn = self._error()
        if self._held(abs(ahead[0]) < 0.05 and abs(ahead[1]) < 0.05 and abs(turn) < 0.12):
            self._arrive("stand")
        return walking_velocity(ahead, turn)

    def _stand(self) -> Walking:
        left = self._keep_out(_FOLLOW_SPEED)
        if self._seconds() > _STAND_SECONDS * self._style.pause:
            ahead, turn = self._error()
            if np.linalg.norm(ahead) > 0.10 or abs(turn) > 0.2:
                self._enter("walk")
            elif left < 0.02:
                self._enter("reach")
        return np.zeros(3)

    def _go_on(self, phase: str) -> None:
        out_of_reach = max(hand.miss for hand in self._hands) > _LARGEST_MISS
        self._enter("walk" if out_of_reach else phase)

    def _reach(self) -> Walking:
        if self._held(self._bring(self._beside(_BESIDE, self._grips()), 0.35 * self._style.pace) < 0.01):
            self._go_on("grasp")
        return np.zeros(3)

    def _grasp(self) -> Walking:
        if self._held(self._bring(self._grips(), 0.15 * self._style.pace) < 0.012):
            self._go_on("grip")
        return np.zeros(3)

    def _grip(self) -> Walking:
        closed = np.concatenate([CLOSED_LEFT, CLOSED_RIGHT])
        self._fingers = approach(self._fingers, closed, _FINGER_SPEED / self._world.policy_hz)
        self._bring(self._grips(), 0.15)
        if self._seconds() > _GRIP_SECONDS:
            self._enter("drive")
        return np.zeros(3)

    def _hold(self) -> None:
        """Keep the hands where the grips are while the cart stands straight before the robot."""
        x, y = self._world.data.qpos[:2]
        height = GRIP_HEIGHT + 0.03 * self._style.side
        held = np.array([[_BEHIND, GRIP_Y, height], [_BEHIND, -GRIP_Y, height]])
        self._bring(on_floor((x, y), self._world.heading, held), _FOLLOW_SPEED)

    def _to_bay(self) -> tuple[NDArray[np.float64], float]:
        """What the cart still has to go `(2,)`, along the bay's heading and across it [m], and to turn [rad]."""
        (cart, yaw), (mark, aim) = self._cart(), self._mark()
        return rotation_z(-aim)[:2, :2] @ (mark - cart), wrapped(aim - yaw)

    def _drive(self) -> Walking:
        self._hold()
        (along, across), turn = self._to_bay()
        across += self._missed
        if along < _STOP_BEFORE:
            self._missed = 0.0
            self._enter("stop")
        steer = wrapped(turn + float(np.clip(_BEND_GAIN * across, -_STEEPEST, _STEEPEST)))
        self._steer += (steer - self._steer) / (_STEADY_SECONDS * self._world.policy_hz)
        speed = np.clip(1.2 * along, _SLOWEST, _FASTEST * self._style.pace)
        return np.array([speed, 0.0, np.clip(_STEER_GAIN * self._steer, -_FASTEST_TURN, _FASTEST_TURN)])

    def _stop(self) -> Walking:
        self._hold()
        (along, across), turn = self._to_bay()
        if self._seconds() > _STAND_SECONDS:
            if abs(across) > _OFF_LINE or abs(turn) > _ASKEW or along < -_DRIVE_AGAIN:
                self._enter("pull")
            elif along > _DRIVE_AGAIN:
                self._enter("drive")
        return np.zeros(3)

    def _pull(self) -> Walking:
        """Back out of the bay, straight, to come in again."""
        self._hold()
        (along, _), turn = self._to_bay()
        if along > _PULL_TO or self._seconds() > _PULL_SECONDS:
            self._enter("drive")
        return np.array([_PULL_SPEED, 0.0, np.clip(turn, -0.3, 0.3)])
