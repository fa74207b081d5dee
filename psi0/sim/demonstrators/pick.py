"""Walk to the table, reach for an object from the side, close the right hand, lift; try again after a miss."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.constants import CLOSED_RIGHT, NOMINAL_HEIGHT, OPEN_LEFT, OPEN_RIGHT, READY_ARMS
from psi0.robot.layout import ActionPart
from psi0.sim.demonstrators.astray import ASTRAY_SHARE, Astray, draw_astray
from psi0.sim.demonstrators.motion import Frame, Hand, action, approach, error_to
from psi0.sim.demonstrators.phases import Phased, Walking
from psi0.sim.demonstrators.style import draw_style
from psi0.sim.scene import rotation_z
from psi0.sim.world import World

_ARM_SPEED, _FINGER_SPEED = 1.5, 3.0
"""Joint speeds outside of reaching [rad/s]."""
_ALMOST_UP = 0.02
_NEAR_ENOUGH = 0.14
"""How far from where it meant to stand it reaches [m]; coming to rest takes it a tenth of a metre back."""
_RAISE_SECONDS = 2.0
"""How long it raises its hand and leans over at most; a hand that does not get there reaches from where it is."""
_LOST = 0.08
"""An object is not in the hand when its centre is farther from the grasp point than this [m]."""
_MISJUDGED_BY = (0.08, 0.16)
"""How far beside the object a misjudged attempt aims [m]."""
_LEAN_SPEED, _LARGEST_TURN = 0.25, 0.3
"""How fast the torso leans and turns [rad/s], and how far it turns to what it reaches for [rad]."""
_SIDEWAYS = 0.1
"""How much the side it reaches from changes with style [rad]."""
_CLEAR_OF_THE_OTHER = 0.16
"""How far it stays from the other object of two [m]."""
_LEAN_PER_METER, _WITHIN_REACH, _LARGEST_LEAN = 1.5, 0.34, 0.15
"""It leans over to what is farther ahead than this [rad/m, m, rad]."""
_TURNED = ("stand", "raise", "reach", "grasp", "grip", "lift")


@dataclass(frozen=True)
class PickPlan:
    """How an object on a table is picked: offsets in the table's frame [m], speeds [m/s], times [s].

    `turns` is how much of the way the torso turns to what it reaches for, which then is before the camera. With
    `strays` some of its mistakes are to walk to a wrong place. Where it stands varies with style, ahead, to the side
    and in its turn, by `stance_varies` [m, m, rad]: a policy, too, does not stand quite where it should.
    """

    walks: bool = True
    strays: bool = False
    turns: float = 0.5
    stance: tuple[float, float] = (-0.33, 0.17)
    stance_varies: tuple[float, float, float] = (0.0, 0.0, 0.0)
    nearest_to_table: float = -0.18
    hand_yaw: float = 0.25
    raised: tuple[float, float, float] = (0.14, -0.36, 0.96)
    before_grasp: tuple[float, float, float] = (-0.06, -0.10, 0.0)
    grasp_rise: float = 0.01
    lift: tuple[float, float, float] = (-0.04, 0.0, 0.16)
    raise_speed: float = 0.6
    reach_speed: float = 0.35
    grasp_speed: float = 0.13
    lift_speed: float = 0.15
    stand_seconds: float = 0.55
    grip_seconds: float = 0.75
    largest_miss: float = 0.06


class PickDemonstrator(Phased):
    """Phases `walk, stand, raise, reach, grasp, grip, lift`; back to `walk` when the object turns out of reach.

    When the hand closed on nothing, or cannot reach, it goes `up` and `back`, closed from above the object on (else
    what is seen then would not tell whether the hand comes or goes), and all begins anew.
    Without `plan.walks` the feet stay where they are from `stand` on, whatever the distance.
    """

    privileged = True
    leaning: ClassVar[tuple[str, ...]] = ("reach", "grasp", "grip")
    """Phases in which it leans over to what it reaches for."""

    def __init__(self, world: World, plan: PickPlan | None = None) -> None:
        super().__init__(world)
        self._usual = plan or PickPlan()
        self._hand = Hand(world.robot_folder, "right")
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin anew, in the style of this seed."""
        self._style = draw_style(seed)
        self._plan = self._styled()
        self._begin("walk" if self._plan.walks else "stand")
        self._arms, self._fingers = self._world.task.start_arms.copy(), OPEN_RIGHT.copy()
        self._height, self._torso = NOMINAL_HEIGHT, np.zeros(3)
        self._lift_goal = np.zeros(3)
        self._misjudged = np.zeros(3)
        self._frame = Frame()

    def _styled(self) -> PickPlan:
        """How it is done this time."""
        usual, style = self._usual, self._style
        return replace(
            usual,
            hand_yaw=usual.hand_yaw + _SIDEWAYS * style.side,
            reach_speed=usual.reach_speed * style.pace,
            grasp_speed=usual.grasp_speed * style.pace,
            stand_seconds=usual.stand_seconds * style.pause,
        )

    def misjudge(self, random: np.random.Generator) -> None:
        """Aim beside the object until the hand has closed on nothing, or, if it strays, walk to a wrong place first."""
        if self._plan.strays and random.random() < ASTRAY_SHARE:
            self._astray = draw_astray(random)
            return
        while True:
            angle = random.uniform(-np.pi, np.pi)
            miss = random.uniform(*_MISJUDGED_BY) * np.array([np.cos(angle), np.sin(angle), 0.0])
            if self._is_clear(miss):
                break
        self._misjudged = miss

    def _is_clear(self, miss: NDArray[np.float64]) -> bool:
        """Whether a hand that closes so far beside the object leaves the other one of its kind alone."""
        view, task = self._world.view, self._world.task
        if task.objects == 1:
            return True
        between = view.position(task.object_name) + miss - view.position(task.choices[task.object_name])
        return bool(np.linalg.norm(between[:2]) > _CLEAR_OF_THE_OTHER)

    @property
    def misjudging(self) -> bool:
        """Whether it still walks to a wrong place or aims beside the object."""
        return super().misjudging or bool(self._misjudged.any())

    # Where things are

    def _object(self) -> NDArray[np.float64]:
        return self._world.view.position(self._world.task.object_name) + self._misjudged

    def _offset_in_hand(self) -> NDArray[np.float64]:
        """From the grasp point to the object's centre `(3,)` [m]."""
        measured = self._world.body.upper_position()[ActionPart.RIGHT_ARM]
        there = self._world.view.position(self._world.task.object_name)
        return there - self._hand.where(self._world, measured)

    def _lost(self) -> bool:
        return bool(np.linalg.norm(self._offset_in_hand()) > _LOST)

    def _spot(self) -> NDArray[np.float64]:
        """Where to stand `(2,)`: the object before the right hand."""
        return self._spot_before(self._object(), self._plan.stance)

    def _spot_before(self, goal: NDArray[np.float64], stance: tuple[float, float]) -> NDArray[np.float64]:
        """Where to stand `(2,)`: so far ahead and aside of a point `(3,)`, no nearer to the table than it allows."""
        there = self._frame.local(goal)
        spot = [min(there[0] + stance[0], self._plan.nearest_to_table), there[1] + stance[1], 0.0]
        return self._frame.point(np.array(spot))[:2]

    def _grasp_point(self) -> NDArray[np.float64]:
        return self._object() + np.array([0.0, 0.0, self._plan.grasp_rise])

    def _point_before_grasp(self) -> NDArray[np.float64]:
        return self._grasp_point() + self._hand_rotation() @ np.array(self._plan.before_grasp)

    def _raised_point(self) -> NDArray[np.float64]:
        beside = self._frame.turned(np.array(self._plan.raised))
        return np.array([*self._world.data.qpos[:2], 0.0]) + beside

    def _hand_rotation(self) -> NDArray[np.float64]:
        return rotation_z(self._frame.yaw + self._plan.hand_yaw)

    def _error(self) -> tuple[NDArray[np.float64], float]:
        return self._error_to(self._spot(), self._astray, self._plan.stance_varies)

    def _error_to(
        self, spot: NDArray[np.float64], astray: Astray | None, varies: tuple[float, float, float]
    ) -> tuple[NDArray[np.float64], float]:
        """What is left to a spot `(2,)` and the table's heading as it stands in its style, or to a wrong place."""
        ahead, aside, turn = np.array(self._style.stance) * varies
        if astray is not None:
            (ahead, aside), turn = astray.offset, astray.turn
        there = self._frame.local(np.array([*spot, 0.0])) + np.array([ahead, aside, 0.0])
        there[0] = min(there[0], self._plan.nearest_to_table)
        return error_to(self._world, self._frame.point(there)[:2], self._frame.yaw + turn)

    def _turn_to(self, there: NDArray[np.float64]) -> float:
        """How far the torso turns towards a point `(3,)` [rad]."""
        ahead = error_to(self._world, there[:2])[0]
        return float(np.clip(self._plan.turns * np.arctan2(ahead[1], ahead[0]), -_LARGEST_TURN, _LARGEST_TURN))

    def _torso_goal(self) -> NDArray[np.float64]:
        """Roll, pitch, yaw `(3,)` [rad]."""
        turn = self._turn_to(self._object()) if self.phase in _TURNED else 0.0
        far = error_to(self._world, self._object()[:2])[0][0] - _WITHIN_REACH
        lean = np.clip(_LEAN_PER_METER * far, 0.0, _LARGEST_LEAN) if self.phase in self.leaning else 0.0
        return np.array([0.0, lean, turn])

    def _leans(self) -> bool:
        """Whether the torso has been told to lean as far as it is to."""
        return bool(np.abs(self._torso - self._torso_goal()).max() < 0.01)

    # Phases

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action `(1, 36)`."""
        self._torso = approach(self._torso, self._torso_goal(), _LEAN_SPEED / self._world.policy_hz)
        velocity, target_yaw = self._do_phase()
        hands = np.concatenate([OPEN_LEFT, self._fingers])
        return action(hands, self._arms, self._height, velocity, target_yaw, self._torso)[None]

    def _get_ready(self) -> None:
        self._arms = approach(self._arms, READY_ARMS, _ARM_SPEED / self._world.policy_hz)
        self._open()

    def _open(self) -> None:
        self._fingers = approach(self._fingers, OPEN_RIGHT, _FINGER_SPEED / self._world.policy_hz)

    def _close(self) -> None:
        self._fingers = approach(self._fingers, CLOSED_RIGHT, _FINGER_SPEED / self._world.policy_hz)

    def _bring(self, goal: NDArray[np.float64], speed: float) -> float:
        left = self._hand.move(self._world, goal, self._hand_rotation(), speed)
        self._arms = np.concatenate([self._arms[:7], self._hand.joints])
        return left

    def _walk(self) -> Walking:
        self._get_ready()
        return self._walk_to(*self._error(), "stand")

    def _stand(self) -> Walking:
        self._get_ready()
        if self._seconds() > self._plan.stand_seconds:
            ahead, turn = self._error()
            if self._plan.walks and (np.linalg.norm(ahead) > _NEAR_ENOUGH or abs(turn) > 0.2):
                self._enter("walk")
            elif np.abs(self._arms - READY_ARMS).max() < 0.01:
                self._hand.start_from(self._world, self._arms[7:])
                self._enter("raise")
        return np.zeros(3)

    def _raise(self) -> Walking:
        left = self._bring(self._raised_point(), self._plan.raise_speed)
        if self._held(left < 0.01 and self._hand.miss < 0.04 and self._leans()) or self._seconds() > _RAISE_SECONDS:
            self._enter("reach")
        return np.zeros(3)

    def _go_on(self, phase: str) -> None:
        out_of_reach = self._hand.miss > self._plan.largest_miss and self._plan.walks
        if out_of_reach:
            self._could_not_reach()
        self._enter("up" if out_of_reach else phase)

    def _reach(self) -> Walking:
        left = self._bring(self._point_before_grasp(), self._plan.reach_speed)
        if self._held(left < 0.01 and self._seconds() > 0.3):
            self._go_on("grasp")
        return np.zeros(3)

    def _grasp(self) -> Walking:
        if self._held(self._bring(self._grasp_point(), self._plan.grasp_speed) < 0.012):
            self._go_on("grip")
        return np.zeros(3)

    def _grip(self) -> Walking:
        self._close()
        self._bring(self._hand.point, self._plan.grasp_speed)
        if self._seconds() > self._plan.grip_seconds:
            self._lift_goal = self._hand.point + self._frame.turned(np.array(self._plan.lift))
            self._enter("up" if self._lost() else "lift")
        return np.zeros(3)

    def _lift(self) -> Walking:
        self._bring(self._lift_goal, self._plan.lift_speed)
        if self._lost():
            self._enter("up")
        return np.zeros(3)

    def _up(self) -> Walking:
        """Straight up first, else the hand sweeps over what stands beside it."""
        self._misjudged = np.zeros(3)
        raised = self._raised_point()
        above = np.array([*self._hand.point[:2], raised[2]])
        low = self._hand.point[2] < raised[2] - _ALMOST_UP
        if not low:
            self._close()
        if self._bring(above if low else raised, self._plan.raise_speed) < 0.01 and not low:
            self._enter("back")
        return np.zeros(3)

    def _back(self) -> Walking:
        self._close()
        self._arms = approach(self._arms, READY_ARMS, _ARM_SPEED / self._world.policy_hz)
        if np.abs(self._arms - READY_ARMS).max() < 0.01:
            self._enter("walk" if self._plan.walks else "stand")
        return np.zeros(3)
