"""What DVC knows: the stages in order, what each rests on, and which are stale. Nothing here is kept a second time."""

from dataclasses import dataclass

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo

from psi0.errors import Psi0Error
from psi0.params import Params, check_task


@dataclass(frozen=True)
class Stage:
    """One stage of `dvc.yaml`.

    Attributes:
        name: as `dvc repro` takes it: `finetune@pick_can`.
        description: its `desc`.
        rests_on: the stages whose outputs it reads.
        stale: DVC's one status call finds a dependency, parameter, command or output of it changed.
    """

    name: str
    description: str
    rests_on: frozenset[str]
    stale: bool

    @property
    def base(self) -> str:
        """Name without the task."""
        return self.name.partition("@")[0]

    @property
    def task(self) -> str | None:
        """Task of a stage that runs once per task."""
        return self.name.partition("@")[2] or None


def choose_tasks(params: Params, tasks: list[str] | None) -> list[str]:
    """The tasks to make: those asked for, or all of `params.yaml`. Raises `Psi0Error` for one that is not there."""
    for task in tasks or []:
        if check_task(task) not in params.tasks:
            raise Psi0Error(f"task {task!r} is not in `tasks` of params.yaml ({', '.join(params.tasks)}); add it there")
    return tasks or params.tasks


def read_dag(tasks: list[str]) -> list[Stage]:
    """Every stage that the gates of `tasks` rest on, in order. Raises `Psi0Error` with what DVC complains about."""
    try:
        with Repo() as repo:
            graph = repo.index.graph
            order = {stage: number for number, stage in enumerate(repo.index.stages)}
            gates = [stage for stage in order if stage.addressing in {f"gate@{task}" for task in tasks}]
            wanted = set(gates).union(*(networkx.descendants(graph, gate) for gate in gates))
            changed = repo.status([stage.addressing for stage in wanted])
            names = networkx.lexicographical_topological_sort(graph.subgraph(wanted).reverse(), key=order.__getitem__)
            return [
                Stage(
                    name=stage.addressing,
                    description=stage.desc or stage.addressing,
                    rests_on=frozenset(upstream.addressing for upstream in graph.successors(stage)),
                    stale=stage.addressing in changed,
                )
                for stage in names
            ]
    except DvcException as error:
        raise Psi0Error(f"dvc: {error}; `dvc status` says more") from None
