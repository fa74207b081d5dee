"""Runs of the flow `promote` as seen from outside it: asked for, followed, and the events that a promotion raises."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound

PROMOTE = "promote/promote"
"""The deployment that promotes."""
REFUSED, PROMOTED = "psi0.promotion.refused", "psi0.promotion.promoted"
"""Names of the events; automations in Prefect may listen to them."""


def ask_for_promotion(task: str, version: str, by: str, because: str) -> UUID:
    """Have a worker promote a version that a person asked for; returns the id of the run."""
    parameters = {"task": task, "version": version, "by": by, "because": because, "approved": True}
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(PROMOTE)
        return client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id


def state_of(run: UUID) -> State | None:
    """State of a run; None when Prefect knows no such run any more."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_flow_run(run).state
        except ObjectNotFound:
            return None


def tell(event: str, task: str, version: str, message: str) -> None:
    """Raise an event about a version of a task's policy."""
    emit_event(
        event=event,
        resource={"prefect.resource.id": f"psi0.policy.{task}", "prefect.resource.name": f"psi0-{task}"},
        related=[{"prefect.resource.id": f"psi0.version.{task}.{version}", "prefect.resource.role": "version"}],
        payload={"task": task, "version": version, "message": message},
    )
