"""Promote a version: ask the rule, publish its bundle, then take the steps that make it champion, all but the last in
private: deployments follow the pointer, which moves when everything else is in place.

What takes long (the comparison, the bundle) happens before the lock; if another promotion wins meanwhile, this one
says so. `previous` is the way back, and going back needs no new evidence.
"""

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass

from mlflow import MlflowClient

from psi0.errors import Psi0Error
from psi0.registry.champion import read_state
from psi0.registry.compare import play_against
from psi0.registry.comparison import Comparison
from psi0.registry.evidence_files import StoredEvidence
from psi0.registry.final_report import keep_report
from psi0.registry.lock import Work, hold
from psi0.registry.promotion_files import keep
from psi0.registry.publication import publish_version
from psi0.registry.reconcile import reconcile, settle
from psi0.registry.rule import Standing, examine_evidence, fetched
from psi0.registry.steps import Step, no_step, take_steps
from psi0.registry.versions import Version, find_version, model_name

UPLOADED = "bundle uploaded and verified"

Compare = Callable[[MlflowClient, Version, Version], Comparison]


class NotPromotableError(Psi0Error):
    """The rule says no."""

    def __init__(self, standing: Standing, remedy: str) -> None:
        super().__init__(f"{standing.sentence}; {remedy}")
        self.standing = standing


class PromotionLostError(Psi0Error):
    """Another version became champion while this one was being prepared."""


@dataclass(frozen=True)
class Promotion:
    """What a promotion did: versions before and after; `moved` is False when the version was champion already."""

    task: str
    champion: str
    previous: str | None
    moved: bool
    overridden: bool = False
    address: str = ""


def somebody() -> str:
    """Who runs this process: user and machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def promote(
    client: MlflowClient,
    task: str,
    version: str,
    by: str = "",
    because: str = "",
    override: bool = False,
    compare: Compare = play_against,
    step: Step = no_step,
) -> Promotion:
    """Make a version (number or alias) the champion of its task and deploy it.

    Args:
        by: who wants it; this process's user by default.
        because: why; an override needs a reason.
        override: promote it although its evidence does not suffice. Recorded, and shown wherever the version is.
        compare: plays the comparison with the champion where one is missing.
        step: hears of each step taken.

    Raises:
        NotPromotableError: the rule says no and nobody overrode it, or it could not be deployed at all.
        PromotionLostError: another promotion was faster.
        PromotionBusyError: another promotion of this task is at work.
        PromotionStoppedError: MLflow or S3 failed half-way; the next promotion goes on.
        Psi0Error: no such version, or an override without a reason.
    """
    if override and not because.strip():
        raise Psi0Error("an override needs its reason: add --because TEXT; it is kept with the version")
    by = by or somebody()
    found = reconcile(client, task, by, publish=None, step=step)
    candidate = find_version(client, task, version)
    if found.kind == "requested" and found.version != candidate.number:
        reconcile(client, task, by, step=step)
    state = read_state(client, task)
    before = state.champion
    if before == candidate.number:
        if not state.settled:
            reconcile(client, task, by, step=step)
        return Promotion(task, candidate.number, state.recorded_previous, moved=False)
    champion = find_version(client, task, before) if before else None
    with fetched(client, candidate) as stored:
        standing = prepare(client, candidate, champion, stored, override, compare)
        assert stored is not None, "without evidence nothing stands"
        overridden = f"{by}: {because}" if not standing.sufficient else ""
        address = publish_version(client, candidate, overridden, stored.folder)
        keep_report(client, standing, stored, address, overridden)
    step(UPLOADED)
    work = Work(
        candidate=candidate.number,
        champion=before,
        how="override" if overridden else "evidence",
        by=by,
        because=because,
        reasons=[standing.sentence] if overridden else [],
        address=address,
    )

    def publish(client: MlflowClient, other: Version) -> str:
        return address if other.number == candidate.number else publish_version(client, other)

    with hold(task, by) as held:
        settle(client, held, publish, step)
        now = read_state(client, task).champion
        if now not in (before, candidate.number):
            raise PromotionLostError(
                f"{model_name(task)} version {now} became champion while version {candidate.number} was being "
                f"prepared (champion before: {before or 'none'}); promote it again to hold it against version {now}"
            )
        if now != candidate.number:
            take_steps(client, held, work, step)
    return Promotion(task, candidate.number, before, before != candidate.number, bool(overridden), address)


def prepare(
    client: MlflowClient,
    candidate: Version,
    champion: Version | None,
    stored: StoredEvidence | None,
    override: bool,
    compare: Compare,
) -> Standing:
    """What the rule says, after the comparison that it asks for was made and kept.

    Raises:
        NotPromotableError: it says no, and nobody overrides it.
    """
    standing = examine_evidence(client, candidate, champion, stored)
    if standing.awaits_comparison and champion is not None and not override:
        keep(client, candidate, compare(client, candidate, champion))
        standing = examine_evidence(client, candidate, champion, stored)
    if standing.impossible:
        raise NotPromotableError(standing, "no override can mend that: there is nothing to deploy")
    if not standing.sufficient and not override:
        raise NotPromotableError(
            standing, "its report (artifact evidence/gate/report.html) shows why; `--override --because TEXT` is noted"
        )
    return standing


def roll_back(
    client: MlflowClient, task: str, by: str = "", because: str = "", override: bool = False, step: Step = no_step
) -> Promotion:
    """Make the champion before this one champion again. Raises `Psi0Error` as `promote`, or when there was none."""
    reconcile(client, task, by or somebody(), step=step)
    previous = read_state(client, task).recorded_previous
    if previous is None:
        raise Psi0Error(f"{model_name(task)} has no champion to go back to; `psi0 registry list {task}` lists versions")
    return promote(client, task, previous, by, because or "roll back", override, step=step)
