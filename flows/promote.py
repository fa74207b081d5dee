"""Flow `promote`: a version whose evidence suffices becomes the champion of its task, and is deployed."""

from typing import Any

from prefect import flow, get_run_logger

from flows.approval import ask_a_person
from flows.compare import compare_where_due, stand
from flows.failures import failed
from flows.promotion_runs import PROMOTED, REFUSED, tell
from psi0.errors import Psi0Error
from psi0.params import load_params
from psi0.registry.champion import read_state
from psi0.registry.promotion import promote as make_champion
from psi0.registry.promotion import somebody
from psi0.registry.reconcile import reconcile, refuse
from psi0.registry.tracking import open_tracking
from psi0.registry.versions import CANDIDATE, find_version, note


@flow(name="promote", flow_run_name="promote-{task}-{version}")
def promote(task: str, version: str = CANDIDATE, because: str = "", by: str = "", approved: bool = False) -> Any:
    """Hold a version (number or alias) against the champion and, when its evidence suffices, make it champion.

    Args:
        because: why; kept with the version.
        by: who wants it.
        approved: a person decided already; otherwise the run waits for one where `promote.approval` is `manual`.

    Returns:
        The number of the champion after all. Fails for a version whose evidence falls short of more than the
        comparison with the champion, and when MLflow or S3 fail half-way.
    """
    try:
        return _promote(task, version, because, by or somebody(), approved)
    except Psi0Error as error:
        return failed(error)


def _promote(task: str, version: str, because: str, by: str, approved: bool) -> str | None:
    logger, client = get_run_logger(), open_tracking()
    logger.info("%s", reconcile(client, task, by, publish=None).message)
    candidate = find_version(client, task, version)
    champion = read_state(client, task).champion
    if candidate.number != champion:
        compare_where_due([candidate])
        standing = stand(candidate)
        if not standing.sufficient:
            refuse(client, standing)
            tell(REFUSED, task, candidate.number, standing.sentence)
            if standing.comparison is None:
                raise Psi0Error(standing.sentence)
            logger.warning("%s", standing.sentence)
            return champion
        if load_params().promote.approval == "manual" and not approved:
            answer = ask_a_person(standing)
            if answer is None:
                logger.warning("nobody answered: version %s of %s stays candidate", candidate.number, task)
                return champion
            by = answer.by or "somebody on Prefect's page"
            if answer.decision == "refuse":
                reason = f"refused by {by}: {answer.because or 'no reason given'}"
                note(open_tracking(), candidate, promotion="refused", promotion_reason=reason)
                tell(REFUSED, task, candidate.number, reason)
                logger.info("version %s of %s is %s", candidate.number, task, reason)
                return champion
            because = answer.because or because
    result = make_champion(open_tracking(), task, candidate.number, by, because, step=logger.info)
    if result.moved:
        message = f"version {result.champion} of {task} is champion (before: {result.previous or 'none'})"
        tell(PROMOTED, task, result.champion, message)
        logger.info("%s, deployed from %s", message, result.address)
    else:
        logger.info("version %s of %s was champion already", result.champion, task)
    return result.champion
