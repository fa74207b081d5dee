"""A task is tried once on its own scene before any episode, so that a broken one says so at once."""

from string import Formatter

import numpy as np

from psi0.errors import Psi0Error
from psi0.robot.physics import mujoco
from psi0.sim.scene import THIRD_PERSON_CAMERA, look_at
from psi0.sim.tasks.base import Progress, Task, View
from psi0.sim.tasks.poses import Poses

_STEP_SECONDS = 0.1


def compile_task(task: Task, spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Build a task's scene into a specification that holds robot and room, compile it, and try the task on it.

    Raises:
        Psi0Error: the scene does not compile, the task names a body or geom that is not in it, or one of its methods
            fails or answers in a wrong shape. The message names the task, the method and the file to mend.
    """
    position, target = map(np.array, task.side_view)
    side = spec.camera(THIRD_PERSON_CAMERA)
    side.pos, side.quat = position, look_at(position, target)
    try:
        task.build(spec)
        model = spec.compile()
    except ValueError as error:
        raise _broken(task, "build", f"the scene does not compile: {error}") from None
    _check_names(task, model)
    _try_methods(task, View(model, mujoco.MjData(model)))
    return model


def _broken(task: Task, method: str, reason: str) -> Psi0Error:
    return Psi0Error(f"task {task.name!r}: {method}: {reason}; mend {type(task).__module__}")


def _check_names(task: Task, model: mujoco.MjModel) -> None:
    bodies = {model.body(index).name for index in range(model.nbody)}
    geoms = {model.geom(index).name for index in range(model.ngeom)}
    if task.object_name not in bodies or task.object_name not in geoms:
        raise _broken(task, "object_name", f"the scene has no body and geom called {task.object_name!r}")
    unknown = sorted(set(task.colors) - geoms)
    if unknown:
        raise _broken(task, "colors", f"the scene has no geom called {unknown[0]!r}")
    templates = task.templates(evaluating=True)
    if not task.templates(evaluating=False) or not all(templates):
        raise _broken(task, "instructions", "an instruction is missing or empty")
    fields = {field for template in templates for _, field, _, _ in Formatter().parse(template) if field is not None}
    meant = task.choices if task.objects > 1 else {}
    if fields - set(meant):
        raise _broken(task, "instructions", f"nothing called {min(fields - set(meant))!r} can be chosen here")
    absent = sorted((set(meant) | set(meant.values())) - geoms)
    if absent:
        raise _broken(task, "choices", f"the scene has no geom called {absent[0]!r}")


def _try_methods(task: Task, view: View) -> None:
    method = "place"
    try:
        task.place(view, Poses(np.random.default_rng(0)))
        mujoco.mj_forward(view.model, view.data)
        method = "settled"
        task.settled(view)
        method = "key_points"
        points = np.asarray(task.key_points(view))
        method = "update"
        task.update(view, Progress(), _STEP_SECONDS)
    except Exception as error:
        raise _broken(task, method, f"cannot be evaluated ({type(error).__name__}: {error})") from None
    expected = (len(task.key_point_names), 3)
    if points.shape != expected or not np.isfinite(points).all():
        raise _broken(task, "key_points", f"gives an array of shape {points.shape}, expected {expected} finite numbers")
