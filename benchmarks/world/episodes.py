"""Runs a policy that needs no eyes on a range of seeds, without drawing pictures, and counts what came of it."""

import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.world.changes import AS_BUILT, changed_world
from psi0.evaluate.evaluation import Arrangement, evaluate, simulator_setup
from psi0.evaluate.intervals import wilson
from psi0.evaluate.resolve import resolve
from psi0.evaluate.schemas import Row
from psi0.params import Params
from psi0.seeds import EVALUATION_SEEDS_START
from psi0.sim.variation import Level

_BLIND = "blind"


@dataclass(frozen=True)
class Tally:
    """What came of some episodes: one row of a table."""

    episodes: int
    successes: int
    tags: dict[str, int]
    seconds: float
    """Mean length of an episode [s]."""
    invalid: int = 0
    """Seeds left out because their scene did not settle."""

    @property
    def rate(self) -> str:
        """`49 of 50, 0.90 to 1.00`: successes and the 95 % Wilson interval."""
        interval = wilson(self.successes, self.episodes, descriptive=False)
        return f"{self.successes} of {self.episodes} | {interval.low:.2f} to {interval.high:.2f}"

    @property
    def failures(self) -> str:
        """How often episodes failed for which reason, the most frequent first."""
        ordered = sorted(self.tags.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{tag} {count}" for tag, count in ordered) or "none"


def head(column: str) -> str:
    """The head of a table of tallies whose second column has this name."""
    return f"| Task | {column} | Success | 95 % Wilson interval | Mean length | Failures |\n|---|---|---|---|---|---|"


def line(task: str, name: str, tally: Tally) -> str:
    """One row of such a table."""
    return f"| `{task}` | {name} | {tally.rate} | {tally.seconds:.1f} s | {tally.failures} |"


def count(rows: list[Row], policy_hz: int, invalid: int = 0) -> Tally:
    """Add up rows of an evaluation."""
    tags = Counter(row.tag for row in rows if not row.success)
    seconds = sum(row.steps for row in rows) / policy_hz / max(len(rows), 1)
    return Tally(len(rows), sum(row.success for row in rows), dict(tags), seconds, invalid)


def run(
    params: Params, task: str, policies: Mapping[str, tuple[str, int]], level: Level, change: str = AS_BUILT
) -> dict[str, Tally]:
    """Run policies on the first evaluation seeds, one after the other on one worker; progress goes to stderr.

    Finished episodes are kept like those of `psi0 evaluate`, so that a stopped table goes on where it was.

    Args:
        policies: by name, what `psi0 evaluate --policy` takes and how many episodes.

    Raises:
        Psi0Error: no such task or policy, or the world cannot be built.
    """
    chosen = params.evaluation.model_copy(update={"level": level, "workers": 1})
    params = params.model_copy(update={"evaluation": chosen})
    arms = [
        Arrangement(
            name=f"{name}, {change}",
            spec=resolve(policy, params.control.chunk),
            control=_BLIND,
            limit=episodes,
            seeds=range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + episodes),
        )
        for name, (policy, episodes) in policies.items()
    ]
    setup = simulator_setup(params, task, arms)
    world = partial(changed_world, change, task, params.control, params.camera, level)
    with redirect_stdout(sys.stderr):
        found = evaluate(params, task, arms, replace(setup, make_world=world), videos=0)
    evaluations = [found[arm.name].evaluation for arm in arms]
    return {
        name: count(one.rows, params.control.policy_hz, len(one.invalid_seeds))
        for name, one in zip(policies, evaluations, strict=True)
    }
