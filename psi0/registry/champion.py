"""Where a task stands: the alias in MLflow, the champion on record, and the pointer that deployments follow.

The three agree except while a promotion is under way, after one was killed, or after somebody moved the alias by hand.
The record (two tags of the registered model) is written last and by a promotion alone. Where one of the three was lost
or edited, the other two tell the champion.
"""

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from psi0.deploy.publish import BrokenPointerError, Pointer, read_pointer
from psi0.registry.tracking import explained
from psi0.registry.versions import CHAMPION, PREVIOUS, model_name

CHAMPION_TAG, PREVIOUS_TAG = "psi0.champion", "psi0.previous"
"""Tags of a registered model: the champion on record, and the one before it."""


@dataclass(frozen=True)
class State:
    """Where a task stands.

    Attributes:
        alias: version that the alias `champion` names.
        previous_alias: version that the alias `previous` names.
        recorded: champion on record; None where that version was deleted.
        recorded_previous: champion before it, likewise.
        pointer: what is deployed.
        deployed: version that the pointer names, when that is one of this registry.
    """

    task: str
    alias: str | None = None
    previous_alias: str | None = None
    recorded: str | None = None
    recorded_previous: str | None = None
    pointer: Pointer | None = None
    deployed: str | None = None

    @property
    def champion(self) -> str | None:
        """The champion by right: what two of the three say; of three answers, the one on record."""
        if self.alias == self.deployed:
            return self.alias
        return self.recorded or self.deployed

    @property
    def settled(self) -> bool:
        """Whether alias, record and pointer agree, and the way back is where the record says."""
        agree = self.alias == self.recorded == self.deployed
        return agree and self.previous_alias == self.recorded_previous


def read_state(client: MlflowClient, task: str) -> State:
    """Ask MLflow and S3 where a task stands; a task without versions has no champion. Raises `Psi0Error`."""
    with explained(f"reading the aliases of {model_name(task)}"):
        try:
            model = client.get_registered_model(model_name(task))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return State(task)
            raise
        pointer = _pointer(task)
        deployed = _version(client, task, pointer.version) if pointer else None
        recorded, previous = (_version(client, task, model.tags.get(tag, "")) for tag in (CHAMPION_TAG, PREVIOUS_TAG))
    aliases = {name: str(number) for name, number in model.aliases.items()}
    return State(
        task=task,
        alias=aliases.get(CHAMPION),
        previous_alias=aliases.get(PREVIOUS),
        recorded=str(recorded.version) if recorded else None,
        recorded_previous=str(previous.version) if previous else None,
        pointer=pointer,
        # A bucket may have served another registry before, whose version numbers mean other policies.
        deployed=str(deployed.version)
        if deployed and pointer and deployed.tags.get("bundle") == pointer.bundle
        else None,
    )


def _pointer(task: str) -> Pointer | None:
    """The pointer; None where it is broken too: a promotion writes it anew."""
    try:
        return read_pointer(task)
    except BrokenPointerError:
        return None


def _version(client: MlflowClient, task: str, number: str) -> ModelVersion | None:
    """A version, or None when the number is none or the version was deleted."""
    if not number.isdigit():
        return None
    try:
        return client.get_model_version(model_name(task), number)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def set_alias(client: MlflowClient, task: str, alias: str, number: str | None) -> None:
    """Let an alias name a version, or nothing. Raises `Psi0Error`."""
    with explained(f"moving the alias {alias} of {model_name(task)}"):
        if number is None:
            client.delete_registered_model_alias(model_name(task), alias)
        else:
            client.set_registered_model_alias(model_name(task), alias, number)


def write_record(client: MlflowClient, task: str, champion: str, previous: str | None) -> None:
    """Put a champion on record; the tag that decides goes last. Raises `Psi0Error`."""
    with explained(f"recording the champion of {model_name(task)}"):
        client.set_registered_model_tag(model_name(task), PREVIOUS_TAG, previous or "")
        client.set_registered_model_tag(model_name(task), CHAMPION_TAG, champion)
