"""`psi0 registry audit`: does the whole hold together, from the alias that is deployed down to the last stored byte?

Nothing that the registry says is taken at its word: each version's verdict is computed again from its evaluation files
under its own plan; its tags, its lineage, its bundle and the published pointer must follow from them.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import RegisteredModel

from psi0.connection import connect
from psi0.errors import Psi0Error
from psi0.progress import progress
from psi0.registry import attempts
from psi0.registry.audit_publication import check_deployment
from psi0.registry.audit_version import Checked, check_policy, check_weights
from psi0.registry.evidence_files import ObjectReader
from psi0.registry.runs import STAGE
from psi0.registry.tracking import EXPERIMENT, explained
from psi0.registry.versions import WEIGHTS, Version, list_models, list_versions, model_name

_THREADS = 4


@dataclass
class Audit:
    """What an audit found.

    Attributes:
        breaches: what does not hold, a sentence each.
        overrides: promotions against the rule.
        tasks, versions, objects, bundles: how much was looked at.
        bytes_read: of objects that were new or had changed since the last audit.
        seconds: how long it took.
    """

    breaches: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    tasks: int = 0
    versions: int = 0
    bundles: int = 0
    objects: int = 0
    bytes_read: int = 0
    seconds: float = 0.0

    @property
    def summary(self) -> str:
        """One line."""
        counts = {"task": self.tasks, "version": self.versions, "bundle": self.bundles, "object": self.objects}
        looked = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items())
        looked = f"{looked} ({self.bytes_read / 1e6:.1f} MB read) in {self.seconds:.1f} s"
        overridden = f", {len(self.overrides)} overridden" if self.overrides else ""
        breaches = f"{len(self.breaches)} BREACH{'' if len(self.breaches) == 1 else 'ES'}"
        return f"audit: {looked}: {breaches if self.breaches else 'everything holds'}{overridden}"


def audit(client: MlflowClient, task: str | None = None, reread: bool = False) -> Audit:
    """Check a task's versions, or all of them with the weights they were made from.

    Args:
        client: of the MLflow server.
        task: the one task to check.
        reread: read every byte again, also of objects that did not change since the last audit.

    Raises:
        Psi0Error: there is no such task, or MLflow or S3 cannot be reached.
    """
    begin = time.monotonic()
    models = {model.name: model for model in list_models(client)}
    wanted = _wanted(models, task)
    reader, found = ObjectReader(connect(), reread), Audit(tasks=len(wanted))
    try:
        checked = _check_versions(client, wanted, [name for name in WEIGHTS if model_name(name) in models], reader)
        found.breaches += [f"{one.version.label} {fault}" for one in checked for fault in one.faults]
        for each in wanted:
            own = {one.version.number: one for one in checked if one.version.task == each}
            found.breaches += _attempts(models[model_name(each)], own.values())
            deployed = check_deployment(models[model_name(each)], own, reader)
            found.breaches += deployed.faults
            found.overrides += deployed.overrides
            found.bundles += deployed.bundles
        if task is None:
            found.breaches += _strays(reader, wanted)
    except BaseException:
        reader.keep()
        raise
    reader.keep(everything=task is None)
    found.versions, found.objects, found.bytes_read = len(checked), reader.objects, reader.bytes_read
    found.seconds = time.monotonic() - begin
    return found


def _check_versions(client: MlflowClient, tasks: list[str], weights: list[str], reader: ObjectReader) -> list[Checked]:
    """Check every version of some tasks and some weights, several at a time."""
    policies = [version for each in tasks for version in list_versions(client, each)]
    made_from = [version for each in weights for version in list_versions(client, each)]
    by_number = {(version.name, version.number): version for version in made_from}
    policy = partial(check_policy, client, reader=reader, runs=_gate_runs(client), weights=by_number)
    checked = []
    with progress("auditing versions", len(policies) + len(made_from)) as advance, ThreadPoolExecutor(_THREADS) as pool:
        both = chain(pool.map(policy, policies), pool.map(partial(check_weights, reader=reader), made_from))
        for one in both:
            checked.append(one)
            advance(1)
    return checked


def _wanted(models: dict[str, RegisteredModel], task: str | None) -> list[str]:
    tasks = [name.removeprefix(model_name("")) for name in models]
    tasks = [one for one in tasks if one not in WEIGHTS]
    if task is not None and task not in tasks:
        raise Psi0Error(
            f"{model_name(task)} is not registered; policies are registered for: {', '.join(tasks) or 'none'}"
        )
    return tasks if task is None else [task]


def _gate_runs(client: MlflowClient) -> dict[str, Run]:
    """Every gate's run that is there, by id, in few questions."""
    with explained("listing the runs of gates"):
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return {}
        found, token = {}, None
        while True:
            page = client.search_runs(
                [experiment.experiment_id],
                f"tags.`{STAGE}` LIKE 'gate@%'",
                ViewType.ACTIVE_ONLY,
                max_results=1000,
                page_token=token,
            )
            found.update({run.info.run_id: run for run in page})
            token = page.token
            if not token:
                return found


def _attempts(model: RegisteredModel, checked: Iterable[Checked]) -> list[str]:
    """Whether the attempts under each plan are all still there: who deletes the failures flatters the rest."""
    by_plan: dict[str, list[Version]] = {}
    for one in checked:
        plan = one.version.tags.get("plan_sha256")
        if plan:
            by_plan.setdefault(attempts.model_tag(plan), []).append(one.version)
    faults = []
    for tag in sorted({*by_plan, *(tag for tag in model.tags if tag.startswith(attempts.model_tag("")))}):
        versions, counted = by_plan.get(tag, []), model.tags.get(tag, "0")
        there = attempts.distinct(versions)
        if str(there) != counted:
            digits = tag.removeprefix(attempts.model_tag(""))
            faults.append(f"{model.name} counts {counted} attempts under plan {digits}, but {there} are there")
        numbers = {attempts.number_of(one): one.tags.get("policy_sha256") for one in versions}
        if 0 in numbers or (str(there) == counted and len(numbers) != there):
            faults.append(f"{model.name} has versions whose attempt under plan {tag[-16:]} is missing or repeated")
    return faults


def _strays(reader: ObjectReader, tasks: list[str]) -> list[str]:
    """Bundles and pointers on S3 of tasks that have no registered policy."""
    bucket = reader.connection.bucket
    names = {
        f"{place}/{key.partition('/')[0]}"
        for place in ("bundles", "channels")
        for key in reader.listing(bucket, f"{place}/")
    }
    return [
        f"s3://{bucket}/{name} belongs to no registered policy"
        for name in sorted(names)
        if name.partition("/")[2] not in tasks
    ]
