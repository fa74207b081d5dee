"""Two policies on the same seeds: exact McNemar tests of whether they differ, and of whether the new one is worse.

Only seeds on which the two differ say anything. A candidate that passed the gate is kept back when it is worse beyond
chance (one-sided p below 0.05) *and* by more than the stated margin; to prove the opposite, that it is not worse,
would need hundreds of episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from psi0.errors import Psi0Error
from psi0.evaluate.schemas import Row, TorchComparison

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Paired:
    """What came of a comparison.

    Attributes:
        episodes: seeds that both ran.
        candidate_only: seeds on which only the candidate succeeded.
        champion_only: seeds on which only the champion succeeded.
        difference: success rate of the candidate less that of the champion.
        p_worse: probability of so many champion-only seeds if the two were equally good.
        worse: beyond chance and beyond the margin.
    """

    episodes: int
    candidate_only: int
    champion_only: int
    difference: float
    p_worse: float
    worse: bool

    def sentence(self) -> str:
        """The result in words."""
        verdict = "worse than the champion" if self.worse else "not shown to be worse than the champion"
        return (
            f"on {self.episodes} common seeds the candidate is {verdict}: it alone succeeds on {self.candidate_only}, "
            f"the champion alone on {self.champion_only} (difference {self.difference:+.1%}, p {self.p_worse:.3f})"
        )


def compare_paired(candidate: Sequence[Row], champion: Sequence[Row], margin: float) -> Paired:
    """Compare two policies seed by seed.

    Args:
        candidate: episodes of the new policy.
        champion: episodes of the old one.
        margin: deficit of the success rate that is tolerated.

    Raises:
        Psi0Error: the seeds differ, or there are none.
    """
    candidate_only, champion_only = discordant(candidate, champion)
    p_worse = _mcnemar(champion_only, candidate_only, "greater")
    difference = (candidate_only - champion_only) / len(candidate)
    worse = p_worse < SIGNIFICANCE and difference < -margin
    return Paired(len(candidate), candidate_only, champion_only, round(difference, 6), round(p_worse, 6), worse)


def compare_with_torch(graphs: Sequence[Row], torch: Sequence[Row]) -> TorchComparison:
    """Compare the exported graphs with the torch policy, seed by seed; a significant difference does not hold.

    The seeds end where the floor test of the graphs ends. The test stays conservative all the same: of two equal
    policies under the registered plan fewer than 2 % differ significantly (tests/model/test_gate_torch.py).

    Raises:
        Psi0Error: the seeds differ, or there are none.
    """
    graphs_only, torch_only = discordant(graphs, torch)
    p_value = _mcnemar(graphs_only, torch_only, "two-sided")
    return TorchComparison(
        episodes=len(graphs),
        graphs_only=graphs_only,
        torch_only=torch_only,
        difference=round((graphs_only - torch_only) / len(graphs), 6),
        p_value=round(p_value, 6),
        holds=p_value >= SIGNIFICANCE,
    )


def discordant(first: Sequence[Row], second: Sequence[Row]) -> tuple[int, int]:
    """Seeds on which the first alone succeeded, and the second alone.

    Raises:
        Psi0Error: the seeds differ, or there are none.
    """
    one, other = ({row.seed: row.success for row in rows} for rows in (first, second))
    if not one or one.keys() != other.keys() or len(first) != len(one) or len(second) != len(other):
        raise Psi0Error(
            f"a paired comparison needs the same seeds, each once: {len(first)} against {len(second)}; run both again"
        )
    return (
        sum(one[seed] and not other[seed] for seed in one),
        sum(other[seed] and not one[seed] for seed in one),
    )


def _mcnemar(wins: int, losses: int, alternative: str) -> float:
    """Exact p-value: given that two equal policies differ on a seed, either is as likely to be the one that wins."""
    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative=alternative).pvalue)
