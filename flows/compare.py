"""The champion on the candidate's fresh seeds, as Prefect tasks: one comparison per task, decided as one family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from flows.failures import failed
from psi0.errors import Psi0Error
from psi0.registry.champion import read_state
from psi0.registry.compare import play_against
from psi0.registry.comparison import Comparison, decide_together
from psi0.registry.promotion_files import keep
from psi0.registry.rule import Standing, examine
from psi0.registry.tracking import open_tracking
from psi0.registry.versions import Version, find_version


@dataclass(frozen=True)
class Contest:
    """A candidate, and the champion it must be held against."""

    candidate: Version
    champion: Version


@task(name="compare", task_run_name="compare-{candidate.number}-with-{champion.number}", cache_policy=NO_CACHE)
def play(candidate: Version, champion: Version) -> Comparison | State[Any]:
    """Play every seed of a comparison with both policies."""
    try:
        return play_against(open_tracking(), candidate, champion)
    except Psi0Error as error:
        return failed(error)


def compare_where_due(candidates: Sequence[Version]) -> None:
    """Make the comparisons that these candidates lack, decide them together, and keep each with its version.

    A candidate whose evidence falls short otherwise, or that has no champion to beat, is left alone.
    """
    due = [contest for candidate in candidates if (contest := _contest(candidate)) is not None]
    played = [_played(play(contest.candidate, contest.champion, return_state=True)) for contest in due]
    client, logger = open_tracking(), get_run_logger()
    for contest, comparison in zip(due, decide_together(played), strict=True):
        keep(client, contest.candidate, comparison)
        logger.info("%s: %s", contest.candidate.task, comparison.sentence)


def stand(candidate: Version) -> Standing:
    """What the rule says about a candidate now."""
    client = open_tracking()
    champion = read_state(client, candidate.task).champion
    return examine(client, candidate, find_version(client, candidate.task, champion) if champion else None)


def _played(state: State[Any]) -> Comparison:
    if not state.is_completed():
        raise Psi0Error(state.message or "the comparison did not finish")
    comparison: Comparison = state.result()
    return comparison


def _contest(candidate: Version) -> Contest | None:
    standing = stand(candidate)
    if not standing.awaits_comparison or standing.champion is None:
        return None
    return Contest(candidate, find_version(open_tracking(), candidate.task, standing.champion))
