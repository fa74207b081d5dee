"""The tasks of the simulator by name. A task is one small file; `psi0 sim tasks` lists them."""

from psi0.errors import Psi0Error
from psi0.sim.tasks.base import Task
from psi0.sim.tasks.carry_place_can import CarryPlaceCan
from psi0.sim.tasks.open_drawer import OpenDrawer
from psi0.sim.tasks.pick_can import PickCan
from psi0.sim.tasks.push_cart import PushCart

TASKS: dict[str, type[Task]] = {task.name: task for task in (PickCan, CarryPlaceCan, PushCart, OpenDrawer)}


def make_task(name: str, objects: int = 1) -> Task:
    """A task by name; `objects` of a kind to choose from where it has a choice. Raises `Psi0Error` on other names."""
    if name not in TASKS:
        raise Psi0Error(f"task {name!r} does not exist; known tasks: {', '.join(TASKS)}")
    return TASKS[name](objects)
