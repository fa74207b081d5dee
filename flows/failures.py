"""Errors a person can fix end a run with their message, not with a traceback."""

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from prefect import Flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.states import Crashed, Failed, State

from psi0.errors import Psi0Error

Value = TypeVar("Value")


def failed(error: Psi0Error) -> State[Any]:
    """Log the message of an error and return the failed state that carries it."""
    get_run_logger().error("%s", error)
    return Failed(message=str(error))


def unwrap(outcome: Value | State[Any]) -> Value:
    """What a flow or task returned. Raises `Psi0Error` with the message when that is a failed state."""
    if not isinstance(outcome, State):
        return outcome
    raise Psi0Error(outcome.message or "failed without a word")


def run_subflow(flow: Flow[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a flow called within another one returned. Raises `Psi0Error` with its message when it failed.

    Called plainly, a flow that returns a failed state raises Prefect's own exception instead.
    """
    state: State[Any] = flow(*arguments, return_state=True, **named)  # type: ignore[assignment, func-returns-value]
    if not state.is_completed():
        raise Psi0Error(state.message or f"{flow.name} ended as {state.name}")
    return state.result()


def retry_on(kind: type[Exception]) -> Callable[[Any, Any, State[Any]], bool]:
    """A task's `retry_condition_fn`: try again after this error alone, the one that time can heal."""

    def heals(task: Any, run: Any, state: State[Any]) -> bool:
        try:
            state.result()
        except kind:
            return True
        except BaseException:
            return False
        return False

    return heals


def mark_crashed(run_id: str) -> None:
    """Tell Prefect that a killed run is over: it could not do so itself, and who watches it still waits."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run_id)).state
            if state is not None and not state.is_final():
                client.set_flow_run_state(UUID(run_id), Crashed(message="its process was killed"), force=True)
    except Exception as error:
        get_run_logger().warning("the killed run %s could not be marked as crashed: %s", run_id, error)
