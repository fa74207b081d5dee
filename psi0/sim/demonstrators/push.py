"""Walk up behind the cart, take both grips, steer it round the bend into the bay, stop."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.angles import wrapped
from psi0.robot.constants import CLOSED_LEFT, CLOSED_RIGHT, NOMINAL_HEIGHT, OPEN_LEFT, OPEN_RIGHT
from psi0.robot.layout import ActionPart
from psi0.sim.demonstrators.astray import ASTRAY_SHARE, draw_astray
from psi0.sim.demonstrators.motion import Hand, action, approach, error_to, no_slower
from psi0.sim.demonstrators.phases import Phased, Walking
from psi0.sim.demonstrators.style import Style, draw_style
from psi0.sim.furniture import GRIP_HEIGHT, GRIP_X, GRIP_Y, on_floor
from psi0.sim.scene import rotation_z
from psi0.sim.world import World

_OPEN, _CLOSED = np.concatenate([OPEN_LEFT, OPEN_RIGHT]), np.concatenate([CLOSED_LEFT, CLOSED_RIGHT])
_FINGER_SPEED, _ARM_SPEED, _STRAIGHTEN_SPEED = 3.0, 1.5, 0.4
"""Joint speeds outside of reaching [rad/s]."""
_BEHIND = 0.34
"""From the pelvis to the grips while they are held [m]."""
HELD_BEFORE = _BEHIND - GRIP_X
"""From the pelvis to the cart's middle while it is held [m]."""
_STANCE_VARIES = 0.04, 0.08, 0.18
"""How much where it stands behind the cart varies with style, ahead, aside and in its turn [m, m, rad]: a policy does
not stand quite where it should either, and is to learn that the hands go where the grips are."""
_HAND_YAW = 0.25
_ORIENTATION_COST = 0.03
"""Little [m/rad]: from where it stands aside of the cart a hand that may not turn misses its grip."""
_OUT, _BESIDE = np.array([0.12, 0.36, 0.0]), np.array([-0.06, 0.10, 0.0])
_STAND_SECONDS, _GRIP_SECONDS, _STOP_SECONDS, _LARGEST_MISS = 0.5, 0.75, 1.0, 0.06
_LOST = 0.06
"""A grip is not in the hand when it is farther from the grasp point than this [m]."""
_OFF_SPOT, _TURNED = 0.10, 0.20
"""From where it stands so far off it does not reach, or, half as much again, does not take hold [m, rad]."""
_ROOM, _SWING, _KEEPS_BACK = 0.06, 0.3, 0.25
"""How far beside its place the raised hands pass the cart [m], how far aside a turn swings them [m/rad], and how far
back it stays at most until they do [m]."""
_BEND_GAIN, _STEEPEST, _STEER_GAIN = 2.5, 0.8, 2.2
_STRIDE_SECONDS = 0.4
"""Over which it takes the mean of what it sees: it sways with every stride, and does not steer against that."""
_FASTEST, _SLOWEST, _FASTEST_TURN = 0.55, 0.30, 0.75
_STRAIGHT, _STRAIGHTEN_SECONDS = 0.03, 1.5
"""It drives off once the arms hold the cart straight before it, to so much [rad], or after so long [s]."""
_PARK_FROM, _MISSED_TO = 0.25, 0.03
"""So far before the bay's middle it begins to park [m]; who drives in beside it by mistake sees it later."""
_PARKED = np.array([0.05, 0.05, 0.10])
_ASKEW = np.array([0.11, 0.11, 0.18])
"""It stops once the cart is so near to the bay's middle, along, across and in its turn, and parks anew when it came to
rest farther off [m, m, rad]."""
_PARK_GAIN, _FASTEST_PARKING = 1.6, np.array([0.40, 0.40, 0.35])
"""Of the cart's velocity while it is parked [1/s], and its limits [m/s, m/s, rad/s]."""
_MISSED_BY = (0.12, 0.22)
"""How far off the line it drives in by mistake [m]."""
_SHORT_BY = (0.04, 0.14)
"""How far short of the grips it closes its hands by mistake [m]."""
_SLIPS_AFTER, _SLIPS_FOR, _OPENS_FOR = (0.0, 4.0), (0.6, 1.6), 0.5
"""When into the drive a hand slips by mistake, how long it drives on so, and how long the hand is open [s]."""
_OPENED = 0.3
"""Arms that let go, and the feet, move once the fingers are told to be open to so much [rad]."""

Pose = tuple[NDArray[np.float64], float]
"""Position on the floor `(2,)` [m] and yaw [rad]."""


@dataclass(frozen=True)
class Slip:
    """A hand that slips off its grip while it drives: 0 is the left one; when, and for how long it drives on so [s]."""

    hand: int
    after: float
    seconds: float


class PushDemonstrator(Phased):
    """Phases `raise, walk, stand, reach, grasp, grip, straighten, drive, park, stop`; back to `walk` when the grips are
    out of reach or not in both hands, and from `stop` to `park` when the cart came to rest askew.

    It raises its hands, wide apart, before it walks: raised beside the cart they shove it.

    Driving follows the line through the bay along its heading: the farther off the line, the steeper towards it,
    which makes an arc.
    """

    privileged = True

    def __init__(self, world: World) -> None:
        folder = world.robot_folder
        self._hands = (Hand(folder, "left", _ORIENTATION_COST), Hand(folder, "right", _ORIENTATION_COST))
        super().__init__(world)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin anew, in the style of this seed."""
        self._style: Style = draw_style(seed)
        self._arms = self._world.task.start_arms.copy()
        self._wide, self._holding = self._arms, self._arms
        self._fingers = _OPEN.copy()
        self._missed, self._short = 0.0, 0.0
        self._slip: Slip | None = None
        self._steer = 0.0
        self._begin("raise")

    def misjudge(self, random: np.random.Generator) -> None:
        """Walk to a wrong place first, close the hands on nothing, let a hand slip, or drive in beside the bay."""
        if random.random() < ASTRAY_SHARE:
            self._astray = draw_astray(random)
            return
        mistake = random.choice(("short", "slip", "missed"))
        if mistake == "short":
            self._short = random.uniform(*_SHORT_BY)
        elif mistake == "slip":
            self._slip = Slip(int(random.integers(2)), random.uniform(*_SLIPS_AFTER), random.uniform(*_SLIPS_FOR))
        else:
            self._missed = random.choice((-1.0, 1.0)) * random.uniform(*_MISSED_BY)

    @property
    def misjudging(self) -> bool:
        """Whether the mistake is still being made."""
        return super().misjudging or self._missed != 0.0 or self._short != 0.0 or self._slip is not None

    # Where things are

    @property
    def _grip_height(self) -> float:
        """How high the hands take the grips [m]; differs with style."""
        return GRIP_HEIGHT + 0.03 * self._style.side

    def _cart(self) -> Pose:
        return self._world.view.position("cart")[:2], self._world.view.heading("cart")

    def _mark(self) -> Pose:
        return self._world.view.position("mark")[:2], self._world.view.heading("mark")

    def _grips(self) -> NDArray[np.float64]:
        """Where the hands go `(2, 3)`, left first [m]."""
        position, yaw = self._cart()
        grips = np.array([[GRIP_X - self._short, y, self._grip_height] for y in (GRIP_Y, -GRIP_Y)])
        return on_floor((position[0], position[1]), yaw, grips)

    def _lost(self) -> bool:
        """Whether one of the hands is not where its grip is."""
        arms = self._world.body.upper_position()
        parts = (arms[ActionPart.LEFT_ARM], arms[ActionPart.RIGHT_ARM])
        there = np.array([hand.where(self._world, part) for hand, part in zip(self._hands, parts, strict=True)])
        return bool(np.linalg.norm(there - self._grips(), axis=1).max() > _LOST)

    def _stands_off(self, scale: float = 1.0) -> bool:
        """Whether it stands too far from where it should to go on."""
        ahead, turn = self._error()
        return bool(np.linalg.norm(ahead) > scale * _OFF_SPOT) or abs(turn) > scale * _TURNED

    def _error(self) -> tuple[NDArray[np.float64], float]:
        """What is left to where it stands, in its style, behind the cart, or to a wrong place."""
        position, yaw = self._cart()
        ahead, aside, turn = np.array(self._style.stance) * _STANCE_VARIES
        if self._astray is not None:
            # Never nearer than it should stand: there is the cart.
            (ahead, aside), turn = np.minimum(self._astray.offset, [0.0, np.inf]), self._astray.turn
        behind = np.array([GRIP_X - _BEHIND + ahead, aside])
        return error_to(self._world, position + rotation_z(yaw)[:2, :2] @ behind, yaw + turn)

    # Phases

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action `(1, 36)`."""
        velocity, target_yaw = self._do_phase()
        return action(self._fingers, self._arms, NOMINAL_HEIGHT, velocity, target_yaw)[None]

    def _rotations(self) -> list[NDArray[np.float64]]:
        return [rotation_z(self._world.heading + sign * _HAND_YAW) for sign in (-1.0, 1.0)]

    def _bring(self, goals: NDArray[np.float64], speed: float) -> float:
        """Move both hands towards `goals` `(2, 3)`; the larger distance left [m]."""
        left = [
            hand.move(self._world, goal, rotation, speed)
            for hand, goal, rotation in zip(self._hands, goals, self._rotations(), strict=True)
        ]
        self._arms = np.concatenate([hand.joints for hand in self._hands])
        return max(left)

    def _move_fingers(self, goal: NDArray[np.float64]) -> None:
        """Open or close both hands by a step."""
        self._fingers = approach(self._fingers, goal, _FINGER_SPEED / self._world.policy_hz)

    def _beside(self, offset: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each point moved by an offset along the heading that is given for the left hand `(2, 3)` [m]."""
        mirrored = np.array([offset, offset * np.array([1.0, -1.0, 1.0])])
        return points + mirrored @ rotation_z(self._world.heading).T

    def _take_over(self) -> None:
        """Move the hands from where the arms are told to be."""
        for hand, joints in zip(self._hands, (self._arms[:7], self._arms[7:]), strict=True):
            hand.start_from(self._world, joints)

    def _raise(self) -> Walking:
        """Hands open, wide apart beside the body."""
        if self._world.steps == self._since:
            self._take_over()
        self._move_fingers(_OPEN)
        pelvis = np.array([*self._world.data.qpos[:2], self._grip_height])
        left = self._bring(self._beside(_OUT, np.tile(pelvis, (2, 1))), 0.45 * self._style.pace)
        if self._held(left < 0.01) or self._seconds() > 2.0:
            self._wide = self._arms.copy()
            self._enter("walk")
        return np.zeros(3)

    def _keep_out(self) -> None:
        """As raised, the arms at rest: a policy cannot foresee how the torso sways, nor what would balance that."""
        self._move_fingers(_OPEN)
        if self._let_go():
            self._arms = approach(self._arms, self._wide, _ARM_SPEED / self._world.policy_hz)

    def _let_go(self) -> bool:
        """Whether the fingers are told to be open."""
        return bool(np.abs(self._fingers - _OPEN).max() < _OPENED)

    def _walk(self) -> Walking:
        self._keep_out()
        if not self._let_go():
            return np.zeros(3)
        ahead, turn = self._error()
        beside = max(0.0, abs(ahead[1]) + _SWING * abs(turn) - _ROOM)
        ahead[0] -= min(beside, _KEEPS_BACK)
        return self._walk_to(ahead, turn, "stand")

    def _stand(self) -> Walking:
        self._keep_out()
        if self._seconds() > _STAND_SECONDS * self._style.pause:
            if self._stands_off():
                self._enter("walk")
            elif np.abs(self._arms - self._wide).max() < 0.01:
                self._take_over()
                self._enter("reach")
        return np.zeros(3)

    def _go_on(self, phase: str) -> None:
        out_of_reach = max(hand.miss for hand in self._hands) > _LARGEST_MISS
        if out_of_reach:
            self._could_not_reach()
        self._enter("walk" if out_of_reach or self._stands_off(1.5) else phase)

    def _reach(self) -> Walking:
        if self._held(self._bring(self._beside(_BESIDE, self._grips()), 0.35 * self._style.pace) < 0.01):
            self._go_on("grasp")
        return np.zeros(3)

    def _grasp(self) -> Walking:
        if self._held(self._bring(self._grips(), 0.15 * self._style.pace) < 0.012):
            self._go_on("grip")
        return np.zeros(3)

    def _grip(self) -> Walking:
        self._move_fingers(_CLOSED)
        self._bring(self._grips(), 0.15)
        if self._seconds() > _GRIP_SECONDS:
            self._holding, self._short = self._held_arms(), 0.0
            self._enter("walk" if self._lost() else "straighten")
        return np.zeros(3)

    def _straighten(self) -> Walking:
        """Turn the cart straight before the robot, still standing."""
        self._hold()
        if np.abs(self._arms - self._holding).max() < _STRAIGHT or self._seconds() > _STRAIGHTEN_SECONDS:
            self._steer = 0.0
            self._enter("drive")
        return np.zeros(3)

    def _held_arms(self) -> NDArray[np.float64]:
        """Arms `(14,)` that hold the grips where they are while the cart stands straight before the robot [rad]."""
        x, y = self._world.data.qpos[:2]
        held = np.array([[_BEHIND, side, self._grip_height] for side in (GRIP_Y, -GRIP_Y)])
        goals = on_floor((x, y), self._world.heading, held)
        return np.concatenate(
            [
                hand.joints_at(self._world, goal, rotation)
                for hand, goal, rotation in zip(self._hands, goals, self._rotations(), strict=True)
            ]
        )

    def _hold(self) -> None:
        """Bring the arms to where they hold the cart straight before the robot, slowly, and keep them there."""
        self._arms = approach(self._arms, self._holding, _STRAIGHTEN_SPEED / self._world.policy_hz)

    def _to_bay(self) -> NDArray[np.float64]:
        """What the cart still has to go, along the bay's heading and across it, and to turn `(3,)` [m, m, rad]."""
        (cart, yaw), (mark, aim) = self._cart(), self._mark()
        return np.array([*rotation_z(-aim)[:2, :2] @ (mark - cart), wrapped(aim - yaw)])

    def _drive(self) -> Walking:
        self._hold()
        along, across, turn = self._to_bay()
        across += self._missed
        if along < (_MISSED_TO if self._missed else _PARK_FROM):
            self._missed, self._slip = 0.0, None
            self._enter("park")
        elif self._slip is not None:
            self._let_slip(self._slip)
        elif self._held(self._lost()):
            self._enter("walk")
        steer = wrapped(turn + float(np.clip(_BEND_GAIN * across, -_STEEPEST, _STEEPEST)))
        self._steer += (steer - self._steer) / (_STRIDE_SECONDS * self._world.policy_hz)
        speed = np.clip(1.2 * along, _SLOWEST, _FASTEST * self._style.pace)
        return np.array([speed, 0.0, np.clip(_STEER_GAIN * self._steer, -_FASTEST_TURN, _FASTEST_TURN)])

    def _let_slip(self, slip: Slip) -> None:
        """When it is time a hand opens and comes off the grip; it drives on so, whatever becomes of the cart."""
        seconds = self._seconds() - slip.after
        if seconds > 0.0:
            hand, rate = slice(7 * slip.hand, 7 * slip.hand + 7), self._world.policy_hz
            fingers = _OPEN if seconds < _OPENS_FOR else _CLOSED
            self._fingers[hand] = approach(self._fingers[hand], fingers[hand], _FINGER_SPEED / rate)
            self._arms[hand] = approach(self._arms[hand], self._wide[hand], 2 * _STRAIGHTEN_SPEED / rate)
        if seconds > slip.seconds:
            self._slip = None

    def _park(self) -> Walking:
        self._hold()
        left = self._to_bay()
        if self._held(self._lost()):
            self._enter("walk")
        elif (np.abs(left) < _PARKED).all():
            self._enter("stop")
        else:
            return self._parking_velocity(left)
        return np.zeros(3)

    def _parking_velocity(self, left: NDArray[np.float64]) -> Walking:
        """Velocity `(3,)` with which the cart, that rolls in every direction, goes straight to the bay's middle while
        it turns about its own; `left` is what `_to_bay` says."""
        velocity = np.clip(_PARK_GAIN * left, -_FASTEST_PARKING, _FASTEST_PARKING)
        ahead = rotation_z(self._mark()[1] - self._world.heading)[:2, :2] @ velocity[:2]
        (forward, aside), turning = error_to(self._world, self._cart()[0])[0], velocity[2]
        return no_slower(np.array([ahead[0] + turning * aside, ahead[1] - turning * forward, turning]))

    def _stop(self) -> Walking:
        self._hold()
        if self._seconds() > _STOP_SECONDS and (np.abs(self._to_bay()) > _ASKEW).any():
            self._enter("park")
        return np.zeros(3)
