"""The comparison with the champion as a file: which seeds, what both did on them, what was asked, what follows.

Both play fresh seeds: those that the candidate's own series (from plan and policy) holds after the ones the gate
consumed. On the gate's seeds the candidate was chosen for having succeeded; comparing there would favour it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from psi0.errors import Psi0Error
from psi0.evaluate.noninferiority import holm, p_not_inferior, p_superior
from psi0.evaluate.plan import derived_seeds
from psi0.evaluate.schemas import Evaluation, Hash, Row
from psi0.evaluate.validity import MAX_INVALID_SHARE
from psi0.params import Promote

COMPARISON = "comparison.json"
_DIGITS = 9

Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(_Record):
    """One of the two policies."""

    version: str
    policy_sha256: Hash
    graphs_sha256: Hash


class Pair(_Record):
    """One seed that both played."""

    seed: Count
    candidate: bool = Field(description="Whether the candidate succeeded")
    champion: bool = Field(description="Whether the champion succeeded")


class Comparison(_Record):
    """`comparison.json` of a version."""

    schema_version: Literal[1] = 1
    task: str
    candidate: Side
    champion: Side
    plan_sha256: Hash = Field(description="The candidate's plan, from which its seeds follow")
    skipped_seeds: Count = Field(description="First seeds of the series, which the gate had consumed")
    invalid_seeds: list[Count] = Field(description="Seeds left out for both: the scene did not settle")
    pairs: list[Pair] = Field(min_length=1, description="In the order of the series")
    require: Literal["non_inferiority", "superiority"]
    margin: float
    alpha: float
    candidate_only: Count = Field(description="Seeds on which the candidate alone succeeded")
    champion_only: Count = Field(description="Seeds on which the champion alone succeeded")
    difference: float = Field(description="Success rate of the candidate less that of the champion")
    p_value: float
    family: dict[str, float] = Field(description="P-value of every task that was decided together, this one included")
    adjusted_p_value: float = Field(description="After Holm's correction over the family")
    sufficient: bool

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        asked = "better" if self.require == "superiority" else f"not inferior by {self.margin:.0%}"
        verdict = "is shown to be" if self.sufficient else "is not shown to be"
        tasks = f", {len(self.family)} tasks together" if len(self.family) > 1 else ""
        return (
            f"on {len(self.pairs)} fresh seeds the candidate {verdict} {asked} against champion version "
            f"{self.champion.version}: it alone succeeds on {self.candidate_only}, the champion alone on "
            f"{self.champion_only} (difference {self.difference:+.1%}, p {self.adjusted_p_value:.3f}, "
            f"at most {self.alpha:g} is accepted{tasks})"
        )


def compare(
    candidate: Side,
    champion: Side,
    judged: Evaluation,
    rows: tuple[Sequence[Row], Sequence[Row]],
    invalid_seeds: Sequence[int],
    promote: Promote,
) -> Comparison:
    """Decide a comparison, as the only one of its family.

    Args:
        judged: the candidate's evaluation by the gate.
        rows: episodes of candidate and champion on the same seeds, in the order of the series.
        invalid_seeds: seeds on which neither could start.
        promote: the block of the candidate's parameters: what was planned.

    Raises:
        Psi0Error: the two did not play the same seeds, or played none.
    """
    new, old = rows
    if not new or [row.seed for row in new] != [row.seed for row in old]:
        raise Psi0Error(f"a comparison needs the same seeds: {len(new)} against {len(old)}; run both again")
    pairs = [
        Pair(seed=row.seed, candidate=row.success, champion=other.success) for row, other in zip(new, old, strict=True)
    ]
    wins, losses = _discordant(pairs)
    p_value = _p_value(wins, losses, len(pairs), promote.require, promote.margin)
    return Comparison(
        task=judged.task,
        candidate=candidate,
        champion=champion,
        plan_sha256=judged.plan_sha256,
        skipped_seeds=_consumed(judged),
        invalid_seeds=list(invalid_seeds),
        pairs=pairs,
        require=promote.require,
        margin=promote.margin,
        alpha=promote.alpha,
        candidate_only=wins,
        champion_only=losses,
        difference=round((wins - losses) / len(pairs), 6),
        p_value=p_value,
        family={judged.task: p_value},
        adjusted_p_value=p_value,
        sufficient=p_value <= promote.alpha,
    )


def decide_together(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons as one family: with Holm's correction over all their tasks."""
    family = {one.task: one.p_value for one in comparisons}
    adjusted = holm(family)
    return [
        one.model_copy(
            update={
                "family": family,
                "adjusted_p_value": round(adjusted[one.task], _DIGITS),
                "sufficient": adjusted[one.task] <= one.alpha,
            }
        )
        for one in comparisons
    ]


def fresh_seeds(judged: Evaluation) -> Iterator[int]:
    """The candidate's series of seeds after those that the gate consumed."""
    return islice(derived_seeds(judged.plan_sha256, judged.policy_sha256), _consumed(judged), None)


def faults(comparison: Comparison, candidate: Side, champion: Side, judged: Evaluation, promote: Promote) -> list[str]:
    """Reasons why a recorded comparison is no evidence for this candidate against this champion; empty when it is.

    Everything is computed again from the pairs: a verdict or a number that was edited is found.
    """
    if (comparison.candidate, comparison.champion) != (candidate, champion):
        return [f"{COMPARISON} compares other versions or other graphs"]
    found = []
    planned = (promote.require, promote.margin, promote.alpha)
    if (comparison.require, comparison.margin, comparison.alpha) != planned:
        found.append(f"{COMPARISON} was not decided as the candidate's parameters plan it")
    if comparison.plan_sha256 != judged.plan_sha256:
        found.append(f"{COMPARISON} belongs to another plan")
    played = [pair.seed for pair in comparison.pairs]
    left_out = set(comparison.invalid_seeds)
    drawn = list(islice(fresh_seeds(judged), len(played) + len(left_out)))
    if comparison.skipped_seeds != _consumed(judged) or played != [seed for seed in drawn if seed not in left_out]:
        found.append(f"{COMPARISON} holds seeds that the plan did not draw")
    if len(played) != promote.episodes or len(left_out) > MAX_INVALID_SHARE * max(len(drawn), 8):
        found.append(f"{COMPARISON} holds {len(played)} pairs, {promote.episodes} are planned")
    if _recomputed(comparison) != comparison:
        found.append(f"{COMPARISON} does not follow from its pairs; it was edited")
    return found


def _recomputed(comparison: Comparison) -> Comparison:
    wins, losses = _discordant(comparison.pairs)
    p_value = _p_value(wins, losses, len(comparison.pairs), comparison.require, comparison.margin)
    family = {**comparison.family, comparison.task: p_value}
    adjusted = round(holm(family)[comparison.task], _DIGITS)
    return comparison.model_copy(
        update={
            "candidate_only": wins,
            "champion_only": losses,
            "difference": round((wins - losses) / len(comparison.pairs), 6),
            "p_value": p_value,
            "family": family,
            "adjusted_p_value": adjusted,
            "sufficient": adjusted <= comparison.alpha,
        }
    )


def _p_value(wins: int, losses: int, pairs: int, require: str, margin: float) -> float:
    found = p_superior(wins, losses) if require == "superiority" else p_not_inferior(wins, losses, pairs, margin)
    return round(found, _DIGITS)


def _discordant(pairs: Sequence[Pair]) -> tuple[int, int]:
    wins = sum(pair.candidate and not pair.champion for pair in pairs)
    losses = sum(pair.champion and not pair.candidate for pair in pairs)
    return wins, losses


def _consumed(judged: Evaluation) -> int:
    return len(judged.rows) + len(judged.invalid_seeds)
