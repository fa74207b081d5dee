"""The stages of the DAG by name: what `psi0 stage NAME [--task T]` runs. `dvc.yaml` decides when."""

from collections.abc import Callable
from importlib import import_module

from psi0.errors import Psi0Error
from psi0.params import Params, check_task

_STAGES = {
    "robot": "psi0.robot.stage:make_robot",
    "egodex": "psi0.sim.stage:make_egodex",
    "humanoid_everyday": "psi0.sim.stage:make_humanoid_everyday",
    "prepare_egodex": "psi0.data.stage:prepare_egodex",
    "prepare_humanoid_everyday": "psi0.data.stage:prepare_humanoid_everyday",
    "tokenizer": "psi0.train.stage:fit_tokenizer",
    "pretrain": "psi0.train.stage:pretrain",
    "posttrain": "psi0.train.stage:posttrain",
}
_TASK_STAGES = {
    "demonstrations": "psi0.sim.stage:make_demonstrations",
    "prepare_demonstrations": "psi0.data.stage:prepare_demonstrations",
    "finetune": "psi0.train.stage:finetune",
    "export": "psi0.export.stage:export_policy",
    "evaluate": "psi0.evaluate.stage:evaluate_policy",
    "gate": "psi0.evaluate.stage:judge",
}


def _load(entry: str) -> Callable[..., None]:
    module, function = entry.split(":")
    return getattr(import_module(module), function)


def run_stage(name: str, task: str | None, params: Params) -> None:
    """Run one stage here and now, in the current folder.

    Raises:
        Psi0Error: unknown stage or task, a task missing or superfluous, or whatever the stage refuses.
    """
    if name in _STAGES:
        if task is not None:
            raise Psi0Error(f"stage {name} takes no --task")
        _load(_STAGES[name])(params)
    elif name in _TASK_STAGES:
        if task is None:
            raise Psi0Error(f"stage {name} needs --task; known tasks in params.yaml: {', '.join(params.tasks)}")
        check_task(task)
        _load(_TASK_STAGES[name])(params, task)
    else:
        raise Psi0Error(f"stage {name!r} does not exist; stages: {', '.join([*_STAGES, *_TASK_STAGES])}")
