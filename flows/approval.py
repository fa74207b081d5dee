"""A promotion that waits for a person: the run pauses, its page in Prefect shows the summary and takes the answer."""

from typing import Literal

from prefect import get_run_logger
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from psi0.registry.rule import Standing

PATIENCE_SECONDS = 24 * 3600
_POLL_SECONDS = 2


class Approval(RunInput):
    """What a person answers."""

    decision: Literal["promote", "refuse"]
    because: str = Field("", description="Why; kept with the version")
    by: str = Field("", description="Your name; kept with the version")


def ask_a_person(standing: Standing) -> Approval | None:
    """Pause the current run until a person resumes it with an answer; None when nobody did in a day."""
    summary = (
        f"{standing.sentence}.\n\nThe evidence lies with the version in MLflow (artifact `evidence/gate/report.html`). "
        f"Until you answer, {f'version {standing.champion} stays' if standing.champion else 'nothing is'} champion."
    )
    get_run_logger().info("waiting for a person: open this run in Prefect, read the summary, resume with a decision")
    try:
        return pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=summary, because="", by=""),
            timeout=PATIENCE_SECONDS,
            poll_interval=_POLL_SECONDS,
        )
    except FlowPauseTimeout:
        return None
