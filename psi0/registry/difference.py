"""What changed between two versions: parameters, data, code, and what came of it."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from scipy.stats import binomtest, boschloo_exact

from psi0.errors import Psi0Error
from psi0.evaluate.schemas import Evaluation, Row, read_record
from psi0.files import read_json
from psi0.params import load_params
from psi0.registry.lock_graph import rests_on
from psi0.registry.stage_record import flat, read_lock
from psi0.registry.tracking import explained
from psi0.registry.versions import Version, download_evidence
from psi0.registry.weights import PARTS

COMMITS_SHOWN = 10

_PROMOTION = "promotion"
_COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Change:
    """One thing that is not the same, before and after; None where it was not there."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Difference:
    """What changed from one version to another.

    Attributes:
        before, after: the versions.
        parameters: of `params.yaml`.
        data: prepared and raw datasets by DVC's hash.
        models: the weights they were made from.
        stages: stages of `dvc.lock` whose code, as DVC pinned it, changed.
        code: the commits in a sentence, then the commits between them.
        success: how often each succeeded, and what can be said about the difference.
    """

    before: Version
    after: Version
    parameters: list[Change]
    data: list[Change]
    models: list[Change]
    stages: list[Change]
    code: list[str]
    success: list[str]


class _Compared(BaseModel):
    """What is read of a comparison that a promotion left with a version."""

    model_config = ConfigDict(extra="ignore")

    class _Side(BaseModel):
        version: str

    candidate: _Side
    champion: _Side
    pairs: list[Any]
    candidate_only: int
    champion_only: int
    difference: float
    adjusted_p_value: float


def compare_versions(client: MlflowClient, before: Version, after: Version, repository: Path = Path()) -> Difference:
    """What changed from `before` to `after`; both of one task.

    Args:
        client: of the MLflow server.
        before: the one to start from.
        after: the one to compare it with.
        repository: a clone that may know the commits between them.

    Raises:
        Psi0Error: one has no evidence, or it cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = (_fetch(client, one, Path(scratch) / one.number) for one in (before, after))
        return Difference(
            before=before,
            after=after,
            parameters=_changes(ours["params"], theirs["params"]),
            data=_changes(ours["data"], theirs["data"]),
            models=_changes(_made_from(before), _made_from(after)),
            stages=_changes(ours["code"], theirs["code"]),
            code=_commits(before, after, repository),
            success=_success(client, (before, ours["rows"]), (after, theirs["rows"])),
        )


def show_difference(found: Difference) -> RenderableType:
    """A difference for a terminal."""
    parts: list[RenderableType] = [Text(f"{found.before.label} -> version {found.after.number}", style="bold")]
    for title, changes in (
        ("parameters", found.parameters),
        ("data (DVC's hash)", found.data),
        ("weights", found.models),
        ("code a stage was pinned with (DVC's hash)", found.stages),
    ):
        if not changes:
            parts.append(Text(f"{title}: the same"))
            continue
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
        for change in changes:
            table.add_row(f"  {change.name}", change.before or "absent", "->", change.after or "absent")
        parts.append(table)
    parts += [Text(line) for line in [*found.code, *found.success]]
    return Group(*parts)


def _fetch(client: MlflowClient, version: Version, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    params = load_params(download_evidence(client, version, folder, "params.yaml"))
    lock = read_lock(download_evidence(client, version, folder, "dvc.lock").parent)
    judged = read_record(Evaluation, download_evidence(client, version, folder, "evaluation/policy.json"))
    stages = rests_on(lock, f"gate@{version.task}")
    return {
        "params": {name: str(value) for name, value in flat(params.model_dump(mode="json")).items()},
        "data": {one.path: one.md5[:12] for stage in stages for one in stage.outputs if one.path.startswith("data/")},
        "code": {f"{stage.name} {one.path}": one.md5[:12] for stage in stages for one in stage.code},
        "rows": judged.rows,
    }


def _made_from(version: Version) -> dict[str, str]:
    names = [f"psi0-{part.name}" for part in PARTS]
    return {name: f"version {version.tags[name]}" for name in names if name in version.tags}


def _changes(before: dict[str, str], after: dict[str, str]) -> list[Change]:
    names = [*before, *(name for name in after if name not in before)]
    return [Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _commits(before: Version, after: Version, repository: Path) -> list[str]:
    old, new = (one.tags.get("git_commit", "unknown") for one in (before, after))
    dirty = [one.label for one in (before, after) if one.tags.get("git_dirty") == "true"]
    with_changes = f" (uncommitted changes in {' and '.join(dirty)})" if dirty else ""
    if "unknown" in (old, new):
        return ["code: unknown, for one was registered outside a git clone"]
    if old == new:
        return [f"code: the same commit {old[:12]}{with_changes}"]
    answer = subprocess.run(
        ["git", "-C", str(repository), "log", "--oneline", f"{old}..{new}"], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        return [f"code: commit {old[:12]} -> {new[:12]}{with_changes}; this clone does not know both"]
    lines = answer.stdout.splitlines()
    more = [f"  and {len(lines) - COMMITS_SHOWN} more"] if len(lines) > COMMITS_SHOWN else []
    listed = [f"  {line}" for line in lines[:COMMITS_SHOWN]]
    return [f"code: commit {old[:12]} -> {new[:12]}, {len(lines)} commits{with_changes}", *listed, *more]


def _success(client: MlflowClient, before: tuple[Version, list[Row]], after: tuple[Version, list[Row]]) -> list[str]:
    lines = [f"success: version {one.number} {_rate(one)}" for one, _ in (before, after)]
    old, new = ({row.seed: row.success for row in rows} for _, rows in (before, after))
    common = old.keys() & new.keys()
    if common:
        return [*lines, paired([old[seed] for seed in common], [new[seed] for seed in common])]
    lines.append(unpaired(list(old.values()), list(new.values())))
    recorded = [_recorded(client, one, other) for one, other in ((after[0], before[0]), (before[0], after[0]))]
    return lines + [line for line in recorded if line]


def _rate(version: Version) -> str:
    tags = version.tags
    interval = f", interval {float(tags['interval_low']):.0%} to {float(tags['interval_high']):.0%}"
    return f"{tags['successes']} of {tags['episodes']}{interval}" if "interval_low" in tags else "unknown"


def paired(before: Sequence[bool], after: Sequence[bool]) -> str:
    """A difference on common seeds: exact McNemar test, two-sided."""
    worse = sum(old and not new for old, new in zip(before, after, strict=True))
    better = sum(new and not old for old, new in zip(before, after, strict=True))
    p = binomtest(better, better + worse).pvalue if better + worse else 1.0
    return (
        f"paired on {len(before)} common seeds: {better} succeed only after, {worse} only before "
        f"(exact McNemar p {p:.3f})"
    )


def unpaired(before: Sequence[bool], after: Sequence[bool]) -> str:
    """A difference on seeds of their own: Boschloo's exact test, two-sided."""
    table = [[sum(before), sum(after)], [len(before) - sum(before), len(after) - sum(after)]]
    p = float(boschloo_exact(table).pvalue)
    # Where every episode of both ends alike the test has no statistic.
    p = 1.0 if p != p else p
    return (
        f"unpaired: each ran its own seeds, until its own test stopped (Boschloo p {p:.3f}, descriptive); "
        "a promotion compares on common seeds"
    )


def _recorded(client: MlflowClient, candidate: Version, champion: Version) -> str | None:
    """A paired comparison that a promotion made of the two, where there is one."""
    with tempfile.TemporaryDirectory() as folder, explained(f"reading the comparison of {candidate.label}"):
        there = {Path(item.path).name for item in client.list_artifacts(candidate.run_id, _PROMOTION)}
        if _COMPARISON not in there:
            return None
        file = client.download_artifacts(candidate.run_id, f"{_PROMOTION}/{_COMPARISON}", folder)
        try:
            found = _Compared.model_validate(read_json(Path(file)))
        except (Psi0Error, ValidationError):
            return None
    if (found.candidate.version, found.champion.version) != (candidate.number, champion.number):
        return None
    return (
        f"paired on {len(found.pairs)} fresh seeds when it was promoted: {found.candidate_only} succeed only with "
        f"version {candidate.number}, {found.champion_only} only with version {champion.number} "
        f"(difference {found.difference:+.1%}, p {found.adjusted_p_value:.3f})"
    )
