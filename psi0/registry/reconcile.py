"""Make alias, record and pointer of a task agree: after a kill, after a lost write, after a move by hand.

The recipe, `psi0 promote` and the service `watch` all begin here, holding the lock. What a killed promotion had begun
is finished when it had moved the alias, and undone when it had not. An alias that was moved by hand is a request to
promote: the rule decides, and what it refuses goes back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlflow import MlflowClient

from psi0.registry.champion import State, read_state, set_alias
from psi0.registry.lock import PATIENCE_SECONDS, Held, Work, hold
from psi0.registry.publication import publish_version
from psi0.registry.rule import Standing, examine
from psi0.registry.steps import Step, no_step, take_steps
from psi0.registry.versions import CHAMPION, PREVIOUS, Version, find_version, note

BY_HAND = "somebody who moved the alias"
"""Who promoted, where all that is known is that the alias was moved: MLflow's page asks for no name."""

Publish = Callable[[MlflowClient, Version], str]
"""Puts the bundle of a version on S3 and returns its address."""
Kind = Literal["consistent", "repaired", "promoted", "refused", "waiting", "requested"]


@dataclass(frozen=True)
class Settled:
    """What was found, and done about it.

    Attributes:
        kind: `consistent`: nothing was to be done. `repaired`: something was put right. `promoted`: a version became
            champion. `refused`: an alias moved by hand went back. `waiting`: it went back until the comparison that is
            missing was made. `requested`: the version is to be promoted, by whoever publishes here.
        message: the same in words.
        version: the version it is about.
        standing: what the rule says about it, where it was asked.
    """

    kind: Kind
    message: str
    version: str | None = None
    standing: Standing | None = None


def reconcile(
    client: MlflowClient,
    task: str,
    who: str,
    publish: Publish | None = publish_version,
    step: Step = no_step,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Settled:
    """`settle` under the lock.

    Raises:
        PromotionBusyError: a promotion of this task is at work.
        Psi0Error: MLflow or S3 cannot be reached.
    """
    with hold(task, who, patience_seconds) as held:
        return settle(client, held, publish, step)


def settle(
    client: MlflowClient, held: Held, publish: Publish | None = publish_version, step: Step = no_step
) -> Settled:
    """Make a task's alias, record and pointer agree.

    Args:
        publish: puts a version's bundle on S3; None leaves that, and what follows from it, to somebody else: the
            answer is `requested` then.
        step: hears of each step of a promotion.

    Raises:
        Psi0Error: MLflow or S3 cannot be reached.
    """
    task, state = held.task, read_state(client, held.task)
    if held.left is not None:
        if held.left.candidate == state.alias != state.recorded:
            return _finish(client, held, held.left, "a promotion that was cut off is finished", publish, step)
        held.finish()
    champion = state.champion
    if state.alias == champion:
        return _put_right(client, held, state, publish, step)
    if state.alias is None:
        set_alias(client, task, CHAMPION, champion)
        return Settled(
            "repaired", f"the alias champion of {task} was gone; it names version {champion} again", champion
        )
    return _asked(client, held, state, publish, step)


def _put_right(client: MlflowClient, held: Held, state: State, publish: Publish | None, step: Step) -> Settled:
    """The alias names the champion; pointer, record and the way back may still be wrong."""
    champion = state.champion
    if champion is None:
        if state.previous_alias is not None:
            set_alias(client, held.task, PREVIOUS, None)
        return Settled("consistent", f"{held.task} has no champion")
    if state.settled:
        return Settled("consistent", f"version {champion} is champion of {held.task}", champion)
    if state.recorded == state.deployed:
        set_alias(client, held.task, PREVIOUS, state.recorded_previous)
        return Settled("repaired", f"the alias previous of {held.task} is where the record says again", champion)
    version = find_version(client, held.task, champion)
    work = Work(
        candidate=champion,
        champion=state.recorded_previous or state.previous_alias,
        how="override" if version.tags.get("promotion") == "overridden" else "evidence",
        by=version.tags.get("promoted_by", "unknown"),
        because=version.tags.get("promoted_because", ""),
        reasons=[],
        address=version.tags.get("bundle_address", ""),
    )
    what = f"pointer and record of {held.task} were put back to champion version {champion}"
    return _finish(client, held, work, what, publish, step)


def _asked(client: MlflowClient, held: Held, state: State, publish: Publish | None, step: Step) -> Settled:
    """The alias was moved by hand: promote, or put it back and say why."""
    assert state.alias is not None
    wanted = find_version(client, held.task, state.alias)
    champion = find_version(client, held.task, state.champion) if state.champion else None
    standing = examine(client, wanted, champion)
    if standing.sufficient:
        work = Work(
            candidate=wanted.number,
            champion=state.champion,
            how="evidence",
            by=BY_HAND,
            because="the alias champion was moved to it",
            reasons=[],
            address="",
        )
        return _finish(client, held, work, standing.sentence, publish, step)
    set_alias(client, held.task, CHAMPION, state.champion)
    back = f"the alias went back to version {state.champion}" if state.champion else "the alias was removed"
    if standing.awaits_comparison:
        note(client, wanted, promotion="waiting", promotion_reason=f"{standing.sentence}; {back} meanwhile")
        return Settled("waiting", f"{standing.sentence}; {back} meanwhile", wanted.number, standing)
    refuse(client, standing, back)
    return Settled("refused", f"{standing.sentence}; {back}", wanted.number, standing)


def refuse(client: MlflowClient, standing: Standing, consequence: str = "") -> None:
    """Tag a version with the refusal and its reasons."""
    reason = "; ".join([*standing.impossible, *standing.reasons, *([consequence] if consequence else [])])
    note(client, standing.version, promotion="refused", promotion_reason=reason[:4000])


def _finish(
    client: MlflowClient,
    held: Held,
    work: Work,
    what: str,
    publish: Publish | None,
    step: Step,
) -> Settled:
    if publish is None:
        return Settled("requested", what, work.candidate)
    if not work.address:
        address = publish(client, find_version(client, held.task, work.candidate))
        work = work.model_copy(update={"address": address})
    take_steps(client, held, work, step)
    return Settled("promoted", what, work.candidate)
