"""Arms on the same seeds, as cells of a Markdown table."""

from collections import Counter
from collections.abc import Sequence

from scipy.stats import binomtest

from psi0.evaluate.paired import discordant
from psi0.evaluate.schemas import Evaluation, Row


def success(found: Evaluation) -> tuple[str, str]:
    """Successes of episodes, and the 95 % Wilson interval of their rate."""
    summary = found.summary
    interval = f"{summary.interval.low:.2f} to {summary.interval.high:.2f}"
    return f"{summary.successes} of {summary.episodes}", interval


def failures(rows: Sequence[Row]) -> str:
    """Kinds of failure, the commonest first."""
    tags = Counter(row.tag for row in rows if not row.success)
    ordered = sorted(tags.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{tag} {count}" for tag, count in ordered) or "none"


def mean_seconds(rows: Sequence[Row], policy_hz: int) -> str:
    """Mean length of an episode."""
    return f"{sum(row.steps for row in rows) / policy_hz / max(1, len(rows)):.1f} s"


def alone(found: Evaluation | None, reference: Evaluation | None) -> str:
    """Seeds, of those that both ran, on which only the one and only the other succeeded, with McNemar's exact p."""
    if found is None or reference is None or found is reference:
        return "–"
    common = {row.seed for row in found.rows} & {row.seed for row in reference.rows}
    if not common:
        return "–"
    own, other = ([row for row in rows if row.seed in common] for rows in (found.rows, reference.rows))
    wins, losses = discordant(own, other)
    p_value = float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0
    return f"{wins}, {losses} ({'p < 0.001' if p_value < 0.001 else f'p {p_value:.3f}'})"
