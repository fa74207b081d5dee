"""The one rule of promotion: may this version become champion of its task?

1. Its verdict, computed again from its evaluation files under its own registered plan, is `pass`; the plan is the one
   that its parameters register; what the registry says about it (tags, `gate.json`) is what its files say.
2. Its evidence is complete, and it is a policy for this task.
3. Against the champion: none there, or it was champion before on evidence, or the comparison that its parameters plan
   shows it good enough.

The recipe, `psi0 promote` and an alias moved in MLflow's page all ask here; nothing else decides.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

from psi0.connection import connect
from psi0.errors import Psi0Error
from psi0.evaluate.evidence import POLICY_ARM
from psi0.files import sha256_files
from psi0.registry.audit_version import altered_files
from psi0.registry.comparison import Comparison, Side, faults
from psi0.registry.evidence_files import ObjectReader, StoredEvidence, open_evidence
from psi0.registry.judgement import Judged, contradictions, judge_again
from psi0.registry.promotion_files import read_comparison, read_promotion
from psi0.registry.registration import judgement_tags
from psi0.registry.tracking import explained
from psi0.registry.versions import EVIDENCE, Version, download_evidence

NEEDED = ("graphs", "evaluation", "gate", "limits.json", "latency.json", "params.yaml", "dvc.lock")
"""What a version's evidence must hold; the deployment bundle is made of it."""


@dataclass(frozen=True)
class Standing:
    """What the rule says about a version.

    Attributes:
        version: the version.
        champion: number of the champion it was held against, if there is one.
        impossible: why nothing can make it champion, not even an override: it could not be deployed.
        reasons: why its evidence does not suffice.
        awaits_comparison: everything holds, except that no valid comparison with the champion is there yet.
        notes: what is wrong with the comparison that is there.
        comparison: the valid one with this champion.
    """

    version: Version
    champion: str | None
    impossible: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    awaits_comparison: bool = False
    notes: list[str] = field(default_factory=list)
    comparison: Comparison | None = None

    @property
    def sufficient(self) -> bool:
        """Whether the version may become champion now."""
        return not (self.impossible or self.reasons or self.awaits_comparison)

    @property
    def sentence(self) -> str:
        """The answer in words."""
        name = self.version.label
        if self.impossible or self.reasons:
            return f"{name} may not become champion: {'; '.join([*self.impossible, *self.reasons])}"
        if self.awaits_comparison:
            notes = f" ({'; '.join(self.notes)})" if self.notes else ""
            return f"{name} was not compared with champion version {self.champion} yet{notes}"
        return f"{name} may become champion: {self.comparison.sentence if self.comparison else 'it passed the gate'}"


def examine(client: MlflowClient, version: Version, champion: Version | None) -> Standing:
    """Apply the rule to a version. Raises `Psi0Error` only when MLflow or its artifacts cannot be reached."""
    if not version.run_id:
        return _without_evidence(version, champion)
    reader = ObjectReader(connect())
    with open_evidence(client, version, reader) as stored:
        standing = examine_evidence(client, version, champion, stored)
    reader.keep(everything=False)
    return standing


def examine_evidence(
    client: MlflowClient, version: Version, champion: Version | None, stored: StoredEvidence | None
) -> Standing:
    """`examine` on evidence that is at hand (None: there is none), so that what is judged is what is then deployed."""
    if stored is None:
        return _without_evidence(version, champion)
    against = champion.number if champion else None
    there = {name.partition("/")[0] for name in stored.hashes}
    missing = [name for name in NEEDED if name not in there]
    if missing:
        return Standing(version, against, impossible=[f"its evidence is incomplete: {', '.join(missing)} missing"])
    try:
        judged = judge_again(stored.folder, version.task, stored.graph_hashes)
    except Psi0Error as error:
        return Standing(version, against, impossible=[str(error).replace(str(stored.folder), "evidence")])
    reasons = _contradictions(version, judged, stored)
    if reasons:
        return Standing(version, against, reasons=reasons)
    if champion is None or champion.number == version.number or _was_champion(client, version):
        return Standing(version, against)
    recorded = read_comparison(client, version)
    if recorded is None:
        return Standing(version, against, awaits_comparison=True)
    policy_arm = judged.evidence.evaluations[POLICY_ARM]
    found = faults(recorded, side(version), side(champion), policy_arm, judged.params.promote)
    if found:
        return Standing(version, against, awaits_comparison=True, notes=found)
    return Standing(version, against, reasons=[] if recorded.sufficient else [recorded.sentence], comparison=recorded)


def side(version: Version) -> Side:
    """A version as one side of a comparison."""
    return Side(
        version=version.number,
        policy_sha256=version.tags.get("policy_sha256", ""),
        graphs_sha256=version.tags.get("graphs_sha256", ""),
    )


@contextmanager
def fetched(client: MlflowClient, version: Version) -> Iterator[StoredEvidence | None]:
    """All of a version's evidence in a folder that goes away afterwards; None when it has none."""
    with explained(f"listing the evidence of {version.label}"):
        if not version.run_id or not client.list_artifacts(version.run_id, EVIDENCE):
            yield None
            return
    with tempfile.TemporaryDirectory(prefix="psi0-evidence-") as temporary:
        folder = download_evidence(client, version, Path(temporary))
        yield StoredEvidence(sha256_files(folder), folder)


def _without_evidence(version: Version, champion: Version | None) -> Standing:
    reason = "it has no run with evidence; the recipe registers policies with both"
    return Standing(version, champion.number if champion else None, impossible=[reason])


def _contradictions(version: Version, judged: Judged, stored: StoredEvidence) -> list[str]:
    """Why the verdict is not `pass`, and where plan, files, `gate.json` and tags do not say the same."""
    recomputed = judged.recomputed
    reasons = []
    if recomputed.verdict != "pass":
        reasons += [f"the verdict is {recomputed.verdict}: {reason}" for reason in recomputed.reasons]
    reasons += [f"it {fault}" for fault in (*contradictions(judged), *altered_files(version, stored))]
    return reasons + [
        f"its tag {name} says {version.tags.get(name, '')!r:.40}, its files say {value!r:.40}"
        for name, value in judgement_tags(recomputed).items()
        if version.tags.get(name, "") != value
    ]


def _was_champion(client: MlflowClient, version: Version) -> bool:
    """Whether the version became champion before, on evidence."""
    record = read_promotion(client, version)
    return record is not None and record.version == version.number and record.how == "evidence"
