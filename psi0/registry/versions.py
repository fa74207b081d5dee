"""Versions: what the registry holds about a model, how to find one, and its evidence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from psi0.errors import Psi0Error
from psi0.registry.tracking import explained, is_missing

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
EVIDENCE = "evidence"
"""Folder of a policy's evidence among the artifacts of its run."""
SYSTEM2, SYSTEM1 = "system2", "system1"
WEIGHTS = (SYSTEM2, SYSTEM1)
"""Registered beside the policies, as `psi0-system2` and `psi0-system1`: the weights that policies are made from."""

_PREFIX = "psi0-"


@dataclass(frozen=True)
class Version:
    """A version of a registered policy (or of weights, whose task is `system2` or `system1`).

    Attributes:
        name: registered model, `psi0-<task>`.
        number: its version.
        verdict: `pass`, `refuse` or `void`; `unjudged` where no gate spoke.
        run_id: run whose artifacts hold the evidence; empty for a version that was made by hand.
        tags: all its tags.
        created: True when it was registered just now.
        registered_at: when it was registered [milliseconds since 1970].
        source: address of its files.
        description: what the registry's page says about it, in Markdown.
    """

    name: str
    number: str
    verdict: str
    run_id: str
    tags: dict[str, str]
    created: bool = False
    registered_at: int = 0
    source: str = ""
    description: str = ""

    @property
    def task(self) -> str:
        """Task of the policy."""
        return self.name.removeprefix(_PREFIX)

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.name} version {self.number}"


def model_name(task: str) -> str:
    """Registered model of a task's policies."""
    return f"{_PREFIX}{task}"


def list_models(client: MlflowClient) -> list[RegisteredModel]:
    """Every registered model of psi0, weights included, by name."""
    with explained("listing models"):
        found = list(_pages(client.search_registered_models, f"name LIKE '{_PREFIX}%'"))
    return sorted(found, key=lambda model: model.name)


def list_tasks(client: MlflowClient) -> list[str]:
    """Tasks that have a registered policy."""
    tasks = [model.name.removeprefix(_PREFIX) for model in list_models(client)]
    return [task for task in tasks if task not in WEIGHTS]


def choose_task(client: MlflowClient, task: str | None) -> str:
    """`task`, or the only one that has a registered policy. Raises `Psi0Error` where there is a choice."""
    if task is not None:
        return task
    known = list_tasks(client)
    if len(known) != 1:
        raise Psi0Error(f"name the task with --task; policies are registered for: {', '.join(known) or 'no task yet'}")
    return known[0]


def list_versions(client: MlflowClient, task: str | None = None) -> list[Version]:
    """Versions of a task's policy (or of every policy, without the weights), newest first."""
    tasks = list_tasks(client) if task is None else [task]
    with explained("listing versions"):
        found = [one for each in tasks for one in _pages(client.search_model_versions, f"name = '{model_name(each)}'")]
    return sorted((read_version(one) for one in found), key=lambda one: (one.name, -int(one.number)))


def find_version(client: MlflowClient, task: str, version: str) -> Version:
    """A version by number or alias. Raises `Psi0Error` that lists what there is."""
    name = model_name(task)
    with explained(f"finding version {version} of {name}"):
        try:
            if version.isdigit():
                return read_version(client.get_model_version(name, version))
            return read_version(client.get_model_version_by_alias(name, version.removeprefix("@")))
        except MlflowException as error:
            if not is_missing(error):
                raise
    known = [f"{one.number} ({one.verdict})" for one in list_versions(client, task)]
    raise Psi0Error(f"{name} has no version {version!r}; there is: {', '.join(known) or 'none yet'}")


def choose_version(client: MlflowClient, task: str, version: str | None) -> Version:
    """A version by number or alias; None means the champion, or the newest version where there is no champion."""
    if version is not None:
        return find_version(client, task, version)
    champion = aliases(client, task).get(CHAMPION)
    if champion is not None:
        return find_version(client, task, champion)
    known = list_versions(client, task)
    if not known:
        raise Psi0Error(f"{model_name(task)} has no version yet; `make recipe` registers one")
    return known[0]


def aliases(client: MlflowClient, task: str) -> dict[str, str]:
    """Aliases of a task's policy: `champion` -> version. Raises `Psi0Error` when MLflow does not answer."""
    with explained(f"reading the aliases of {model_name(task)}"):
        try:
            known = client.get_registered_model(model_name(task)).aliases
        except MlflowException as error:
            if not is_missing(error):
                raise
            return {}
    return {alias: str(number) for alias, number in known.items()}


def aliases_of(known: dict[str, str], version: Version) -> list[str]:
    """Those of a task's aliases that point to a version."""
    return sorted(alias for alias, number in known.items() if number == version.number)


def download_evidence(client: MlflowClient, version: Version, folder: Path, part: str = "") -> Path:
    """Fetch a version's evidence (or a file or folder of it) into `folder`.

    Returns:
        Where it lies now: the folder that holds `graphs/`, `evaluation/`, `gate/`, ..., or the part of it.

    Raises:
        Psi0Error: the version has no run, or MLflow does not hand it out.
    """
    if not version.run_id:
        raise Psi0Error(
            f"{version.label} has no run, so there is no evidence for it: it was made by hand. Delete it in MLflow; "
            "`make recipe` registers what it judged"
        )
    with explained(f"fetching the evidence of {version.label}"):
        return Path(client.download_artifacts(version.run_id, f"{EVIDENCE}/{part}".rstrip("/"), str(folder)))


def note(client: MlflowClient, version: Version, **tags: str) -> None:
    """Set tags of a version, `promotion` last: who sees it finds the reasons there."""
    with explained(f"tagging {version.label}"):
        for name in sorted(tags, key=lambda name: name == "promotion"):
            client.set_model_version_tag(version.name, version.number, name, tags[name])


def read_version(version: ModelVersion, created: bool = False) -> Version:
    """A version as MLflow hands it out."""
    tags = dict(version.tags)
    return Version(
        name=version.name,
        number=str(version.version),
        verdict=tags.get("verdict", "unjudged"),
        run_id=version.run_id or "",
        tags=tags,
        created=created,
        registered_at=int(version.creation_timestamp or 0),
        source=version.source or "",
        description=version.description or "",
    )


def _pages(search: Callable[..., Any], question: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(question, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
