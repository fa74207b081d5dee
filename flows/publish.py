"""Flow `publish`: the bundle of a version, built from its registered evidence, on S3."""

from typing import Any

from prefect import flow, get_run_logger

from flows.compare import stand
from flows.failures import failed
from psi0.errors import Psi0Error
from psi0.registry.champion import read_state
from psi0.registry.promotion import somebody
from psi0.registry.publication import publish_version
from psi0.registry.reconcile import reconcile
from psi0.registry.tracking import open_tracking
from psi0.registry.versions import CHAMPION, find_version


@flow(name="publish", flow_run_name="publish-{task}-{version}")
def publish(task: str, version: str = CHAMPION) -> Any:
    """Build, upload and verify the bundle of a version (number or alias); returns its address.

    Doing it again for the same version uploads nothing. The pointer that deployments follow moves to it only when the
    version is the champion. Fails for a version whose verdict is not `pass`.
    """
    try:
        return _publish(task, version)
    except Psi0Error as error:
        return failed(error)


def _publish(task: str, version: str) -> str:
    logger, client = get_run_logger(), open_tracking()
    logger.info("%s", reconcile(client, task, somebody(), step=logger.info).message)
    chosen, champion = find_version(client, task, version), read_state(client, task).champion
    if chosen.number != champion:
        standing = stand(chosen)
        if standing.impossible or standing.reasons:
            raise Psi0Error(standing.sentence)
    address = publish_version(client, chosen)
    logger.info("version %s of %s lies at %s%s", chosen.number, task, address, _where(chosen.number == champion))
    return address


def _where(is_champion: bool) -> str:
    return "" if is_champion else "; it is not the champion, so deployments do not follow it"
