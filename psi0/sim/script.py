"""The best motion without vision that we could write for each task: what a policy that sees must beat.

Each walks to where things are on average and does there what the demonstrator does. It knows how it moved since the
episode began (perfect odometry), but not where it began: without eyes it takes that for the average too. Whether it
holds what it closed its hand on it cannot know, so it goes on regardless. Sweeping the hand along the table instead
was tried on pick_can and never succeeds: the can tips over. Where the cart's bay lies, left or right, is a guess: left.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.policy import Policy
from psi0.sim.demonstrators.carry import CarryDemonstrator
from psi0.sim.demonstrators.motion import Frame
from psi0.sim.demonstrators.open import OpenDemonstrator
from psi0.sim.demonstrators.pick import PickDemonstrator, PickPlan
from psi0.sim.demonstrators.push import HELD_BEFORE, Pose, PushDemonstrator
from psi0.sim.scene import rotation_z
from psi0.sim.tasks.carry_place_can import CarryPlaceCan
from psi0.sim.tasks.push_cart import PushCart
from psi0.sim.world import World


def _frame_from_memory(world: World) -> Frame:
    """The frame in which things are where they are on average, seen from where the robot began; wrong by how its
    start differs from the average one."""
    real, usual = world.start, world.task.average_start
    yaw = real.yaw - usual.yaw
    x, y, _ = np.array([real.x, real.y, 0.0]) - rotation_z(yaw) @ np.array([usual.x, usual.y, 0.0])
    return Frame(x, y, yaw)


class Script(PickDemonstrator):
    """The demonstrator's motion towards the average place of the object instead of the true one."""

    privileged = False

    def __init__(self, world: World, plan: PickPlan | None = None) -> None:
        self._average = np.array(world.task.average_place)
        super().__init__(world, plan)

    def reset(self, seed: int) -> None:
        """Begin anew; call it after the world's reset."""
        super().reset(seed)
        self._frame = _frame_from_memory(self._world)

    def _object(self) -> NDArray[np.float64]:
        return self._frame.point(self._average)

    def _offset_in_hand(self) -> NDArray[np.float64]:
        return np.zeros(3)


class CarryScript(CarryDemonstrator):
    """Carries from the average place to the average mark, over a table of average height."""

    privileged = False

    def reset(self, seed: int) -> None:
        """Begin anew; call it after the world's reset."""
        super().reset(seed)
        self._frame = _frame_from_memory(self._world)

    def _object(self) -> NDArray[np.float64]:
        return self._frame.point(np.array(CarryPlaceCan.average_place))

    def _mark(self) -> NDArray[np.float64]:
        return self._frame.point(np.array(CarryPlaceCan.average_mark))

    def _table_height(self) -> float:
        return CarryPlaceCan.average_mark[2]

    def _offset_in_hand(self) -> NDArray[np.float64]:
        return np.zeros(3)


class PushScript(PushDemonstrator):
    """Takes the grips where they are on average, and steers to the average bay on the left."""

    privileged = False

    def reset(self, seed: int) -> None:
        """Begin anew; call it after the world's reset."""
        super().reset(seed)
        self._frame = _frame_from_memory(self._world)

    def _cart(self) -> Pose:
        """Once held, it is taken to stand straight before the robot."""
        if self.phase not in ("drive", "park", "stop"):
            return self._frame.point(np.array(PushCart.average_place))[:2], self._frame.yaw
        yaw = self._world.heading
        return self._world.data.qpos[:2] + rotation_z(yaw)[:2, :2] @ np.array([HELD_BEFORE, 0.0]), yaw

    def _lost(self) -> bool:
        """It sees no cart that it could have lost."""
        return False

    def _mark(self) -> Pose:
        (x, y), yaw = PushCart.average_mark
        return self._frame.point(np.array([x, y, 0.0]))[:2], self._frame.yaw + yaw


class OpenScript(OpenDemonstrator):
    """Hooks and pulls where the handle is on average."""

    privileged = False

    def reset(self, seed: int) -> None:
        """Begin anew; call it after the world's reset."""
        super().reset(seed)
        self._frame = _frame_from_memory(self._world)

    def _object(self) -> NDArray[np.float64]:
        return self._frame.point(np.array(self._world.task.average_place))

    def _opened(self) -> float:
        """As far as its own hand has come."""
        return float(np.linalg.norm((self._hand.point - self._grasp_point())[:2]))


_SCRIPTS: dict[str, Callable[[World], Policy]] = {
    "pick_can": Script,
    "carry_place_can": CarryScript,
    "push_cart": PushScript,
    "open_drawer": OpenScript,
}


def make_script(world: World) -> Policy:
    """The script of a world's task, one action at a time. Raises `Psi0Error` when the task has none."""
    if world.task.name not in _SCRIPTS:
        raise Psi0Error(f"task {world.task.name!r} has no script; tasks with one: {', '.join(_SCRIPTS)}")
    return _SCRIPTS[world.task.name](world)
