"""Grasp the can, lift it, walk along the table, set it down on the mark, let go, step back."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from psi0.policy import Observation
from psi0.robot.constants import NOMINAL_HEIGHT
from psi0.sim.demonstrators.astray import Astray, draw_astray
from psi0.sim.demonstrators.motion import error_to, walking_velocity
from psi0.sim.demonstrators.phases import Walking
from psi0.sim.demonstrators.pick import PickDemonstrator, PickPlan
from psi0.sim.tasks.carry_place_can import CAN_HALF_HEIGHT, UPRIGHT, is_on_mark
from psi0.sim.world import World

_CARRIED = np.array([0.30, -0.17])
_ABOVE_TABLE, _HIGHER = 0.24, 0.02
_BESIDE_CAN, _FARTHEST_OUT = 0.20, -0.46
_SET_DOWN_RISE = 0.006
_NEAR_ABOVE, _LOWER_SPEED, _DOWN_SPEED = 0.03, 0.12, 0.08
"""From how far above the mark it sets down [m], how fast it comes there and goes on [m/s]."""
_RETREAT = np.array([-0.08, -0.12, 0.0])
_CLEAR_ABOVE, _CLEAR_SECONDS = 0.18, 1.5
_AWAY_TO = -0.38
_RELEASE_SECONDS = 0.5
_SQUAT_SPEED = 0.05
_HIGH_TABLE, _SQUAT_PER_METER, _DEEPEST_SQUAT = 0.78, 0.5, 0.046
"""From which table height on it squats, how much per metre that the table is lower, and how deep it still walks [m]."""
_LEAN, _LEAN_PER_METER = 0.12, 1.0
_ROLL_PER_METER = 0.6
_POSTURE_VARIES = np.array([0.02, 0.05, 0.05])
"""How much style changes how high it stands [m], leans to the side [rad] and raises its hand [m]: all follow the height
of the table, and a policy that could tell that from its own posture would not look at the table."""
_NEAR_ENOUGH = 0.11
"""How far from where it meant to stand it sets down, the first time [m]; each stop more, as it may not get nearer."""
_PLACING = ("over", "near", "down", "release", "retreat")
_PLACE_ASIDE, _PLACE_STANCE_VARIES = 0.12, (0.04, 0.11, 0.15)
"""How far to the side of the mark it stands [m], and as `PickPlan.stance_varies`, where it sets down: strafing with the
can a policy stops early, and is to reach over from there [m, m, rad]."""
_BESIDE_MARK, _NOT_OFF_THE_EDGE = (0.08, 0.14), 0.6 * np.pi
"""How far beside the mark it sets the can down by mistake [m], and at what angle from straight ahead at most [rad]."""


class CarryDemonstrator(PickDemonstrator):
    """Phases of the pick, then `lift, carry, hold, over, near, down, release, retreat, clear, away`.

    It squats a little before lower tables and leans over while it reaches. When the can did not come along it opens
    the hand and begins anew, as when it stepped back and sees the can stand beside the mark.
    """

    leaning: ClassVar[tuple[str, ...]] = ("raise", *PickDemonstrator.leaning, *_PLACING)

    def __init__(self, world: World) -> None:
        plan = PickPlan(
            strays=True, stance_varies=(0.04, 0.06, 0.15), stand_seconds=0.5, raise_speed=0.35, grasp_rise=0.0
        )
        super().__init__(world, plan)

    def reset(self, seed: int) -> None:
        """Begin anew, in the style of this seed."""
        super().reset(seed)
        table = self._table_height()
        higher = self._posture()[0]
        squat = _SQUAT_PER_METER * max(0.0, _HIGH_TABLE - table) - higher
        self._stand_height = NOMINAL_HEIGHT - float(np.clip(squat, 0.0, _DEEPEST_SQUAT))
        self._carried_at = table + _ABOVE_TABLE + _HIGHER * self._style.side
        self._grasped_off = np.zeros(3)
        self._retreat_goal = np.zeros(3)
        self._stops = 0
        self._leaned: NDArray[np.float64] | None = None
        self._carries_astray: Astray | None = None
        self._beside_mark = np.zeros(3)

    def misjudge(self, random: np.random.Generator) -> None:
        """As when picking, or carry the can to a wrong place first, or set it down beside the mark."""
        mistake = random.choice(("carry", "place", "pick"))
        if mistake == "carry":
            self._carries_astray = draw_astray(random)
        elif mistake == "place":
            angle = random.uniform(-_NOT_OFF_THE_EDGE, _NOT_OFF_THE_EDGE)
            self._beside_mark = random.uniform(*_BESIDE_MARK) * np.array([np.cos(angle), np.sin(angle), 0.0])
        else:
            super().misjudge(random)

    @property
    def misjudging(self) -> bool:
        """Whether the mistake is still being made."""
        return self._carries_astray is not None or bool(self._beside_mark.any()) or super().misjudging

    def _styled(self) -> PickPlan:
        """As usual, but over the table that is there."""
        return replace(super()._styled(), raised=(0.10, -0.36, self._table_height() + 0.26 + self._posture()[2]))

    def _posture(self) -> NDArray[np.float64]:
        """How much higher it stands, farther to the side it leans and higher it raises its hand `(3,)` [m, rad, m]."""
        return np.array(self._style.posture) * _POSTURE_VARIES

    # Where things are

    def _table_height(self) -> float:
        return float(self._world.view.position("table")[2])

    def _raised_point(self) -> NDArray[np.float64]:
        """As the plan says, but never nearer beside the can than 20 cm."""
        pelvis = np.array([*self._world.data.qpos[:2], 0.0])
        forward, sideways, height = self._plan.raised
        can = self._frame.local(self._object())[1] - self._frame.local(pelvis)[1]
        sideways = max(min(sideways, can - _BESIDE_CAN), _FARTHEST_OUT)
        return pelvis + self._frame.turned(np.array([forward, sideways, height]))

    def _mark(self) -> NDArray[np.float64]:
        return self._world.view.position("mark")

    def _place_spot(self) -> NDArray[np.float64]:
        return self._spot_before(self._mark(), (self._plan.stance[0], _PLACE_ASIDE))

    def _carry_point(self) -> NDArray[np.float64]:
        world = self._world
        ahead = replace(self._frame, yaw=world.heading).turned(np.array([*_CARRIED, 0.0]))
        return np.array([*world.data.qpos[:2], self._carried_at]) + ahead

    # Phases

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next action `(1, 36)`."""
        rate = self._world.policy_hz
        self._height += np.clip(self._stand_height - self._height, -_SQUAT_SPEED / rate, _SQUAT_SPEED / rate)
        return super().act(observation)

    def _torso_goal(self) -> NDArray[np.float64]:
        """Roll, pitch, yaw `(3,)` [rad]: before it reaches, it leans over, the more the lower the table, to the side of
        the hand, and turns to what it reaches for; so it stays, as a hand on a torso that moves goes astray."""
        if self.phase not in self.leaning:
            self._leaned = None
            return np.zeros(3)
        if self._leaned is None:
            low = max(0.0, _HIGH_TABLE - self._table_height())
            turn = self._turn_to(self._mark() if self.phase in _PLACING else self._object())
            roll = _ROLL_PER_METER * low + self._posture()[1]
            self._leaned = np.array([roll, _LEAN * self._style.lean + _LEAN_PER_METER * low, turn])
        return self._leaned

    def _lift(self) -> Walking:
        left = self._bring(self._carry_point(), 0.25 * self._style.pace)
        if self._held(left < 0.02):
            self._stops = 0
            self._enter("walk" if self._lost() else "carry")
        return np.zeros(3)

    def _carry(self) -> Walking:
        if self._lost():
            self._enter("walk")
            return np.zeros(3)
        ahead, turn = self._error_to(self._place_spot(), self._carries_astray, _PLACE_STANCE_VARIES)
        there = abs(ahead[0]) < 0.06 and abs(ahead[1]) < 0.06 and abs(turn) < 0.15
        if there:
            self._enter("hold" if self._carries_astray is None else "carry")
            self._carries_astray = None
        return np.zeros(3) if there else walking_velocity(ahead, turn)

    def _hold(self) -> Walking:
        if self._lost():
            self._enter("walk")
        elif self._seconds() > self._plan.stand_seconds:
            ahead, turn = self._error_to(self._place_spot(), None, _PLACE_STANCE_VARIES)
            self._stops += 1
            if np.linalg.norm(ahead) > _NEAR_ENOUGH * self._stops or abs(turn) > 0.2:
                self._enter("carry")
            else:
                self._grasped_off = self._offset_in_hand()
                self._hand.start_from(self._world, self._arms[7:])
                self._enter("over")
        return np.zeros(3)

    def _set_down_goal(self) -> NDArray[np.float64]:
        stands = self._mark() + np.array([0.0, 0.0, CAN_HALF_HEIGHT + _SET_DOWN_RISE])
        return stands + self._beside_mark - self._grasped_off

    def _over(self) -> Walking:
        goal = self._set_down_goal()
        goal[2] = self._carried_at
        if self._held(self._bring(goal, 0.25 * self._style.pace) < 0.01 and self._leans()):
            self._enter("near")
        return np.zeros(3)

    def _near(self) -> Walking:
        """Lower the can, and wait just above the mark: a policy strays as it lowers, and is to see here where to."""
        return self._lower_to(_NEAR_ABOVE, _LOWER_SPEED, "down")

    def _down(self) -> Walking:
        return self._lower_to(0.0, _DOWN_SPEED, "release")

    def _lower_to(self, above: float, speed: float, next_phase: str) -> Walking:
        """Bring the can so far above where it is to stand [m], at `speed` [m/s]."""
        goal = self._set_down_goal()
        goal[2] += above
        if self._held(self._bring(goal, speed * self._style.pace) < 0.01):
            self._enter(next_phase)
        return np.zeros(3)

    def _release(self) -> Walking:
        self._open()
        self._bring(self._hand.point, 0.1)
        if self._seconds() > _RELEASE_SECONDS:
            self._beside_mark = np.zeros(3)
            self._retreat_goal = self._hand.point + self._hand_rotation() @ _RETREAT
            self._enter("retreat")
        return np.zeros(3)

    def _retreat(self) -> Walking:
        if self._held(self._bring(self._retreat_goal, 0.2) < 0.01):
            self._retreat_goal = self._retreat_goal + np.array([0.0, 0.0, _CLEAR_ABOVE])
            self._enter("clear")
        return np.zeros(3)

    def _clear(self) -> Walking:
        """Raise the hand above the can: the first step back may be one to the side."""
        if self._held(self._bring(self._retreat_goal, 0.3) < 0.01) or self._seconds() > _CLEAR_SECONDS:
            self._enter("away")
        return np.zeros(3)

    def _away(self) -> Walking:
        """Walk back, the hand kept where it is before the body.

        It closes on nothing there: open, it would look as before the grasp.
        """
        self._close()
        away = self._frame.local(np.array([*self._world.data.qpos[:2], 0.0]))
        ahead, turn = error_to(self._world, self._frame.point(np.array([_AWAY_TO, away[1], 0.0]))[:2], self._frame.yaw)
        if ahead[0] < -0.03:
            return walking_velocity(ahead, turn)
        view = self._world.view
        if self._held(view.upright("can") > UPRIGHT and not is_on_mark(view)):
            self._enter("walk")
        return np.zeros(3)
