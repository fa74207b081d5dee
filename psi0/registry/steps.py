"""The steps of a promotion, in the order in which a kill between any two leaves nothing that cannot be finished.

The bundle lies verified on S3 before anything moves. Then, under the lock and written down in it: the alias `previous`,
the alias `champion`, the pointer that deployments follow, and last the record. The old champion is lost at no point.
"""

import time
from collections.abc import Callable

from mlflow import MlflowClient

from psi0.deploy.publish import point
from psi0.errors import Psi0Error
from psi0.registry.champion import read_state, set_alias, write_record
from psi0.registry.lock import Held, LockLostError, Work
from psi0.registry.promotion_files import PromotionRecord, keep
from psi0.registry.tracking import explained
from psi0.registry.versions import CHAMPION, PREVIOUS, Version, find_version, model_name, note

Step = Callable[[str], None]
"""Hears of every step right after it was taken."""

BEGUN, PREVIOUS_KEPT, ALIAS_MOVED, POINTER_MOVED, RECORDED = STEPS = (
    "begun",
    "previous champion kept",
    "alias moved",
    "pointer moved",
    "recorded",
)


class PromotionStoppedError(Psi0Error):
    """A promotion was cut off; the next one of its task finishes it."""


def no_step(step: str) -> None:
    """Hears of a step and does nothing."""


def take_steps(client: MlflowClient, held: Held, work: Work, step: Step = no_step) -> None:
    """Make a version champion whose bundle lies on S3. Begun again after a kill, it does what is missing.

    Raises:
        PromotionStoppedError: MLflow or S3 failed on the way; the message says how far it came.
        LockLostError: another process took the lock over.
    """
    done = ["bundle uploaded and verified"]

    def taken(name: str) -> None:
        done.append(name)
        step(name)

    try:
        _take(client, held, work, taken)
    except LockLostError:
        raise
    except Psi0Error as error:
        raise PromotionStoppedError(
            f"the promotion of {model_name(held.task)} version {work.candidate} stopped after: {', '.join(done)}. "
            f"Reason: {error}. Nothing is lost: the next promotion of {held.task}, or `psi0 promote {held.task} "
            f"{work.candidate}`, goes on from there"
        ) from error


def _take(client: MlflowClient, held: Held, work: Work, taken: Step) -> None:
    task = held.task
    candidate = find_version(client, task, work.candidate)
    held.begin(work)
    taken(BEGUN)
    before = read_state(client, task)
    if work.champion is not None and before.previous_alias != work.champion:
        set_alias(client, task, PREVIOUS, work.champion)
    taken(PREVIOUS_KEPT)
    held.confirm()
    if before.alias != work.candidate:
        set_alias(client, task, CHAMPION, work.candidate)
    taken(ALIAS_MOVED)
    held.confirm()
    point(work.address, task, candidate.name, candidate.number)
    taken(POINTER_MOVED)
    held.confirm()
    _record(client, candidate, work)
    taken(RECORDED)
    held.finish()


def _record(client: MlflowClient, candidate: Version, work: Work) -> None:
    record = PromotionRecord(
        task=candidate.task,
        version=candidate.number,
        how=work.how,
        by=work.by,
        because=work.because,
        at=time.strftime("%F %T %z"),
        reasons=work.reasons,
        champion_before=work.champion,
        address=work.address,
    )
    keep(client, candidate, record)
    note(
        client,
        candidate,
        promotion="overridden" if work.how == "override" else "promoted",
        promotion_reason="; ".join(work.reasons) if work.how == "override" else work.because,
        promoted_by=work.by,
        promoted_because=work.because,
        promoted_at=record.at,
    )
    if work.how == "override":
        _describe_override(client, candidate, work)
    write_record(client, candidate.task, candidate.number, work.champion)


def _describe_override(client: MlflowClient, candidate: Version, work: Work) -> None:
    """Say so on top of the version's page."""
    said = f"**OVERRIDE** by {work.by}: {work.because}. {'; '.join(work.reasons)}"
    with explained(f"describing {candidate.name} {candidate.number}"):
        known = client.get_model_version(candidate.name, candidate.number).description or ""
        if not known.startswith(said):
            client.update_model_version(candidate.name, candidate.number, f"{said}\n\n{known}")
