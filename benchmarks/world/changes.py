"""The simulator with one thing changed at a time: how much does a verdict hang on how the world was built?"""

from collections.abc import Callable

import numpy as np

from psi0 import paths
from psi0.params import Camera, Control
from psi0.robot.constants import ARM_STIFFENING
from psi0.robot.layout import ALL_JOINTS, ARM_JOINTS
from psi0.robot.physics import mujoco
from psi0.sim import clock, world
from psi0.sim.tasks import make_task
from psi0.sim.tasks.base import Task
from psi0.sim.variation import Level

AS_BUILT = "as built"
_SLIPPERY = 0.7


def _pass_through_itself(spec: mujoco.MjSpec, task: Task) -> None:
    """Parts of the robot meet the world, whose geoms may meet anything, and not each other."""
    robot = {joint.parent.name for joint in spec.joints if joint.name in ALL_JOINTS} | {"pelvis"}
    for geom in spec.geoms:
        if geom.parent.name in robot and geom.contype:
            geom.contype, geom.conaffinity = 0, 1


def _be_slippery(spec: mujoco.MjSpec, task: Task) -> None:
    """Two surfaces in touch share the larger friction, so hands and object both get the smaller one."""
    for geom in spec.geoms:
        if "_hand_" in geom.parent.name or geom.parent.name == task.object_name:
            geom.friction = [_SLIPPERY, *geom.friction[1:]]


def _have_soft_arms(spec: mujoco.MjSpec, task: Task) -> None:
    """The gains that System-0's network states for the arms, `ARM_STIFFENING` times below the simulator's."""
    for actuator in spec.actuators:
        if actuator.target in ARM_JOINTS:
            stiffness, damping = actuator.gainprm[0] / ARM_STIFFENING, -actuator.biasprm[2] / ARM_STIFFENING**0.5
            gain, bias = np.zeros(10), np.zeros(10)
            gain[0], bias[1], bias[2] = stiffness, -stiffness, -damping
            actuator.gainprm, actuator.biasprm = gain, bias


def _weigh(factor: float) -> Callable[[mujoco.MjSpec, Task], None]:
    def change(spec: mujoco.MjSpec, task: Task) -> None:
        for geom in spec.body(task.object_name).geoms:
            geom.mass, geom.density = geom.mass * factor, geom.density * factor

    return change


CHANGES: dict[str, Callable[[mujoco.MjSpec, Task], None]] = {
    "no self-collision": _pass_through_itself,
    "friction 0.7": _be_slippery,
    "arm gains of the robot": _have_soft_arms,
    "half mass": _weigh(0.5),
    "double mass": _weigh(2.0),
}
"""What is done to the specification of robot, room and scene before it is compiled."""
FINE_STEPS = "2 ms steps"
NAMES = (
    AS_BUILT,
    "no self-collision",
    FINE_STEPS,
    "friction 0.7",
    "arm gains of the robot",
    "half mass",
    "double mass",
)


def changed_world(change: str, task: str, control: Control, camera: Camera, level: Level) -> world.World:
    """The world of a task with one change of `NAMES`, without pictures.

    `2 ms steps` changes the physics rate of this whole process: make such a world in a process of its own.

    Raises:
        KeyError: no such change.
    """
    made = make_task(task)
    if change == FINE_STEPS:
        clock.STEPS_PER_TICK = 2 * clock.STEPS_PER_TICK
        clock.PHYSICS_HZ = world.PHYSICS_HZ = 2 * clock.PHYSICS_HZ
    elif change != AS_BUILT:
        build, alter = made.build, CHANGES[change]

        def build_changed(spec: mujoco.MjSpec) -> None:
            build(spec)
            alter(spec, made)

        made.build = build_changed  # type: ignore[method-assign]
    return world.World(made, control, camera, level, paths.ROBOT, render=False)
