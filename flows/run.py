"""`make recipe`: start the services, register the deployment, run it, watch it, and tell what came of it.

Exit status: 0 with a verdict (a refusal too), 3 with `--strict` when a verdict is not `pass`, 1 for an error, 130
after Ctrl-C, which cancels the flow run.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from flows.deploy import FULL_RECIPE, deploy
from flows.summary import TITLE_MARK, Summary, read_summary, render, summary_file
from flows.workspace import check_no_recipe_runs
from infra.services.definitions import prefect_environment
from infra.services.stack import up
from psi0.errors import Psi0Error
from psi0.params import RECIPE_TASKS
from psi0.profiles import add_tasks
from psi0.settings import settings

STRICT_EXIT = 3
EVERY_TASK = "all"
_POLL_SECONDS = 2.0
_CANCEL_SECONDS = 45.0
_LOG_PAGE = 200
_SERVER_PATIENCE_SECONDS = 120.0
_NOISE = (TITLE_MARK, "Engine execution exited", "Running 1 deployment", "Deployment step", "Executing")


def main(
    tasks: Annotated[
        str | None, typer.Option(help="Tasks to make, separated by commas or spaces; `all` adds all to params.yaml")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 3 when a verdict is not `pass`")] = False,
) -> None:
    """Run the whole recipe through its deployment and print what came of it."""
    console, begin = Console(highlight=False), time.monotonic()
    setup = _setup_minutes()
    try:
        check_no_recipe_runs()
        chosen = _choose(tasks, console)
        up(lambda line: console.print(line, soft_wrap=True))
        if deploy():
            console.print(
                "deployments registered: `prefect deployment run psi0/full-recipe --watch` works too", soft_wrap=True
            )
        services = (time.monotonic() - begin) / 60
        summary = run_and_watch({"tasks": chosen}, console)
    except Psi0Error as error:
        console.print(f"psi0: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    whole = (time.monotonic() - begin) / 60
    summary.parts |= {"set-up": setup, "services": services}
    summary.parts["overhead"] = summary.parts.get("overhead", 0.0) + max(0.0, whole - services - summary.minutes)
    console.print(render(summary), markup=False, soft_wrap=True)
    if strict and not summary.passed:
        raise typer.Exit(STRICT_EXIT)


def _choose(tasks: str | None, console: Console) -> list[str] | None:
    """The tasks asked for; None are those of params.yaml, to which `all` adds the others of the recipe."""
    if tasks is None or tasks.strip() != EVERY_TASK:
        return tasks.replace(",", " ").split() if tasks else None
    added = add_tasks(RECIPE_TASKS)
    if added:
        console.print(f"params.yaml: added {', '.join(added)} to `tasks`", soft_wrap=True)
    return list(RECIPE_TASKS)


def run_and_watch(parameters: dict[str, Any], console: Console) -> Summary:
    """Start a run of the deployment and follow its log until it ends. Raises `Psi0Error` unless it completes."""
    os.environ.update(prefect_environment(settings()))
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(FULL_RECIPE)
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        console.print(f"run {run.name!r}: {_page(run.id)}", soft_wrap=True)
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            state = _follow(client, run.id, console)
        except KeyboardInterrupt:
            console.print("cancelling the run ...")
            client.set_flow_run_state(run.id, Cancelling(), force=True)
            state = _wait_for_end(client, run.id)
            console.print(f"the run is {state}; what was finished is kept, run again to go on")
            raise typer.Exit(130) from None
    if not state.is_completed():
        raise Psi0Error(f"run {run.name!r} ended as {state.name}: {state.message or 'see'} ({_page(run.id)})")
    summary = read_summary(str(run.id))
    if summary is None:
        raise Psi0Error(f"run {run.name!r} left no summary in this workspace; did another worker take it?")
    return summary


def _follow(client: Any, run_id: UUID, console: Console) -> Any:
    """Print the run's log as it grows; returns its final state. A server that is away for a while is waited for."""
    import httpx

    log, last_answer = _Log(client, run_id), time.monotonic()
    ended = None
    while True:
        try:
            for line in log.more():
                console.print(line, markup=False, soft_wrap=True)
            if ended is not None:
                return ended
            state = client.read_flow_run(run_id).state
            last_answer = time.monotonic()
            if state is not None and state.is_final():
                ended = state
        except httpx.HTTPError as error:
            if time.monotonic() - last_answer > _SERVER_PATIENCE_SECONDS:
                raise Psi0Error(
                    f"Prefect has not answered for {_SERVER_PATIENCE_SECONDS:.0f} s ({error or type(error).__name__}); "
                    f"the run may go on without being watched: see `psi0 status` and {_page(run_id)}"
                ) from None
        time.sleep(_POLL_SECONDS)


class _Log:
    """The log of a flow run, each entry once."""

    def __init__(self, client: Any, run_id: UUID) -> None:
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

        self._client, self._question = client, LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
        self._seen: set[UUID] = set()
        self._names: dict[UUID | None, str] = {None: ""}

    def more(self) -> Iterator[str]:
        """Lines that were added since the last call."""
        from prefect.client.schemas.sorting import LogSort

        # One page back: entries arrive in batches, and a late one sorts before those already shown.
        begin = max(0, len(self._seen) - _LOG_PAGE)
        while True:
            page = self._client.read_logs(
                log_filter=self._question, limit=_LOG_PAGE, offset=begin, sort=LogSort.TIMESTAMP_ASC
            )
            for entry in page:
                if entry.id not in self._seen:
                    self._seen.add(entry.id)
                    message = _worth_showing(entry.message)
                    if message:
                        yield f"{entry.timestamp.astimezone():%H:%M:%S} {self._speaker(entry.task_run_id)}{message}"
            if len(page) < _LOG_PAGE:
                return
            begin += len(page)

    def _speaker(self, task_run_id: UUID | None) -> str:
        """Name of the task run that logged, once Prefect has recorded it."""
        from prefect.exceptions import ObjectNotFound

        if task_run_id not in self._names:
            try:
                self._names[task_run_id] = f"{self._client.read_task_run(task_run_id).name}: "
            except ObjectNotFound:
                return ""
        return self._names[task_run_id]


def _worth_showing(message: str) -> str:
    """A log message without what is said elsewhere: the summary, and what Prefect wraps around a failure."""
    if message.startswith(_NOISE):
        return ""
    return message.partition("(")[0] if message.startswith("Finished in state") else message


def _wait_for_end(client: Any, run_id: UUID) -> str:
    deadline = time.monotonic() + _CANCEL_SECONDS
    while time.monotonic() < deadline:
        state = client.read_flow_run(run_id).state
        if state is not None and state.is_final():
            return str(state.name).lower()
        time.sleep(_POLL_SECONDS)
    return "still ending"


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _page(run_id: UUID) -> str:
    from psi0.connection import connect

    return f"{connect().prefect_api.removesuffix('/api')}/runs/flow-run/{run_id}"


def _setup_minutes() -> float:
    """Minutes of the set-up, when it came right before this run: no recipe has finished since."""
    path = Path(".venv/psi0-setup-minutes")
    try:
        earlier = [file.stat().st_mtime for file in summary_file("any").parent.glob("*.json")]
        return float(path.read_text()) if path.stat().st_mtime > max(earlier, default=0.0) else 0.0
    except (OSError, ValueError):
        return 0.0


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
