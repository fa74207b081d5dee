"""How often a task was tried under a registered plan: the more tickets, the less a winning one says.

The count rests on the registry, not on a person's memory. It is kept on the registered model as well, so that deleting
the versions that failed does not start it anew.
"""

from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from psi0.registry.tracking import explained, is_missing
from psi0.registry.versions import Version, list_versions, model_name

TAG = "attempt"

_PLAN_DIGITS = 16


def attempt_of(client: MlflowClient, task: str, plan_sha256: str, policy_sha256: str) -> int:
    """Which attempt a policy is under a plan, from 1; a policy that was judged before keeps its number."""
    tried = [one for one in list_versions(client, task) if one.tags.get("plan_sha256") == plan_sha256]
    for version in tried:
        if policy_sha256 and version.tags.get("policy_sha256") == policy_sha256 and number_of(version):
            return number_of(version)
    numbers = [number_of(version) for version in tried]
    return max(recorded(client, task, plan_sha256), distinct(tried), *numbers, 0) + 1


def remember(client: MlflowClient, task: str, plan_sha256: str, attempt: int) -> None:
    """Keep the count on the registered model."""
    if attempt > recorded(client, task, plan_sha256):
        with explained(f"counting the attempts of {model_name(task)}"):
            client.set_registered_model_tag(model_name(task), model_tag(plan_sha256), str(attempt))


def recorded(client: MlflowClient, task: str, plan_sha256: str) -> int:
    """The count that the registered model keeps; 0 before the first attempt."""
    with explained(f"counting the attempts of {model_name(task)}"):
        try:
            tags = client.get_registered_model(model_name(task)).tags
        except MlflowException as error:
            if not is_missing(error):
                raise
            return 0
    return _number(tags.get(model_tag(plan_sha256)))


def number_of(version: Version) -> int:
    """The attempt that a version is tagged as; 0 where the tag is missing or no number."""
    return _number(version.tags.get(TAG))


def distinct(versions: Iterable[Version]) -> int:
    """Policies among versions of one plan; a version whose evidence names no policy counts by itself."""
    return len({version.tags.get("policy_sha256") or f"version {version.number}" for version in versions})


def model_tag(plan_sha256: str) -> str:
    """Tag of the registered model that counts the attempts under a plan."""
    return f"attempts.{plan_sha256[:_PLAN_DIGITS]}"


def phrase(attempt: int) -> str:
    """`candidate 7 under this plan`."""
    return f"candidate {attempt} under this plan"


def chance(attempt: int, alpha: float) -> float:
    """Largest chance that at least one of this many policies at p0 passes a test of error rate `alpha`."""
    return 1 - (1 - alpha) ** attempt


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
