"""What an audit asks of one version: does everything the registry says about it follow from its evidence?"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Run

from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_json
from psi0.registry.evidence_files import ObjectReader, StoredEvidence, open_evidence, s3_place
from psi0.registry.judgement import contradictions, judge_again
from psi0.registry.lock_graph import LockedStage, gaps, prepared, rests_on
from psi0.registry.origins import FILE as ORIGINS
from psi0.registry.origins import Origins, read_origins
from psi0.registry.registration import JUDGEMENT, judgement_tags, origin_tags
from psi0.registry.runs import LOCK, STAGE
from psi0.registry.stage_record import read_lock
from psi0.registry.versions import EVIDENCE, Version, model_name
from psi0.registry.weights import CONTENT, FOLDER, PARTS, content_of

_MANIFEST = "manifest.json"
_SHOWN = 4
_VALUE_SHOWN = 40


@dataclass
class Checked:
    """What was found out about a version.

    Attributes:
        verdict: computed again from its evaluation files; `unknown` where that was not possible.
        faults: what does not hold, each in words that follow the version's name.
        hashes: SHA-256 of every file of its evidence as it lies there now.
    """

    version: Version
    verdict: str = "unknown"
    faults: list[str] = field(default_factory=list)
    hashes: Mapping[str, str] = field(default_factory=dict)


def check_policy(
    client: MlflowClient,
    version: Version,
    reader: ObjectReader,
    runs: Mapping[str, Run],
    weights: Mapping[tuple[str, str], Version],
) -> Checked:
    """Check a policy's version.

    Args:
        client: of the MLflow server.
        version: what to check.
        reader: reads its evidence.
        runs: the gates' runs that are there, by id.
        weights: registered weights by (model, version).

    Raises:
        Psi0Error: MLflow or S3 cannot be reached.
    """
    checked = Checked(version)
    run = runs.get(version.run_id)
    if not version.run_id:
        checked.faults.append("has no run, so there is no evidence for it: it was made by hand")
        return checked
    if run is None:
        checked.faults.append(f"names run {version.run_id}, which is not there (deleted, or no run of a gate)")
        return checked
    if version.source != f"{run.info.artifact_uri}/{EVIDENCE}":
        checked.faults.append(f"has its files at {version.source}, which is not the evidence of its run")
        return checked
    with open_evidence(client, version, reader) as evidence:
        checked.faults += altered_files(version, evidence)
        try:
            judged = judge_again(evidence.folder, version.task, evidence.graph_hashes)
            stages = rests_on(read_lock(evidence.folder), f"gate@{version.task}")
            origins = read_origins(evidence.folder / ORIGINS)
            expected = judgement_tags(judged.registered) | origin_tags(evidence.folder / "dvc.lock", stages, origins)
            checked.verdict = judged.recomputed.verdict
            checked.faults += contradictions(judged)
            checked.faults += _tags(version, expected, evidence)
            checked.faults += _lineage(run, stages, origins)
            checked.faults += _made_from(stages, origins, weights)
        except Psi0Error as error:
            checked.faults.append(f"cannot be judged again: {error}".replace(str(evidence.folder), EVIDENCE))
        checked.hashes = evidence.hashes
    return checked


def check_weights(version: Version, reader: ObjectReader) -> Checked:
    """Check that the bytes of registered weights are those they were registered with. Raises `Psi0Error`."""
    checked = Checked(version)
    place = s3_place(version.source)
    if place is None:
        return checked
    bucket, prefix = place
    if FOLDER.name not in prefix.split("/"):
        if not reader.listing(bucket, prefix.rstrip("/")):
            checked.faults.append(f"lies at {version.source}, where nothing is; `dvc push` puts it there")
        return checked
    hashes = {name: reader.sha256(bucket, prefix + name, stamp) for name, stamp in reader.listing(*place).items()}
    if content_of(hashes) != version.tags.get(CONTENT):
        checked.faults.append("does not hold the weights that it was registered with: a file was changed or is missing")
    return checked


def altered_files(version: Version, evidence: StoredEvidence) -> list[str]:
    """Files that are not what they were when the version was registered, in words that follow the version's name."""
    if not (evidence.folder / _MANIFEST).exists():
        return ["has no manifest of its evidence: it was deleted, or never registered by the recipe"]
    try:
        listed: dict[str, str] = read_json(evidence.folder / _MANIFEST)["files"]
    except (Psi0Error, KeyError, TypeError):
        return [f"has a broken {EVIDENCE}/{_MANIFEST}"]
    faults = []
    if sha256_json(listed) != version.tags.get("evidence_sha256"):
        faults.append(f"was registered with another {EVIDENCE}/{_MANIFEST} (or its tag evidence_sha256 was edited)")
    wrong = [
        f"{EVIDENCE}/{name} {'was changed' if name in evidence.hashes else 'is missing'}"
        for name, digest in listed.items()
        if evidence.hashes.get(name) != digest
    ]
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return faults + ([", ".join([*wrong[:_SHOWN], *more])] if wrong else [])


def _tags(version: Version, expected: dict[str, str], evidence: StoredEvidence) -> list[str]:
    expected = {**expected, JUDGEMENT: evidence.hashes.get("gate/gate.json", "")}
    return [
        f"is tagged {name} {_short(version.tags.get(name, ''))}, its evidence says {_short(value)}"
        for name, value in expected.items()
        if version.tags.get(name, "") != value
    ]


def _short(value: str) -> str:
    return repr(value if len(value) <= _VALUE_SHOWN else f"{value[:_VALUE_SHOWN]}...")


def _lineage(run: Run, stages: list[LockedStage], origins: Origins) -> list[str]:
    """Where the way down to the raw episodes is broken."""
    faults = [f"has a gap in its lineage: {gap}" for gap in gaps(stages)]
    if run.data.tags.get(STAGE) != stages[0].name:
        faults.append(f"comes from a run of {run.data.tags.get(STAGE)}, not of {stages[0].name}")
    if run.data.tags.get(LOCK) != stages[0].sha256:
        faults.append(f"holds a dvc.lock whose {stages[0].name} is not the one that its run recorded")
    pinned = {name: output.md5 for name, output in prepared(stages).items()}
    return faults + [
        f"describes dataset {name} {origin.fingerprint[:10]}, which its dvc.lock does not name"
        for name, origin in origins.datasets.items()
        if pinned.get(name) != origin.fingerprint
    ]


def _made_from(stages: list[LockedStage], origins: Origins, weights: Mapping[tuple[str, str], Version]) -> list[str]:
    """Whether the weights that the version was made from are still registered, and still those."""
    faults = []
    for part in PARTS:
        if part.stage not in {stage.name for stage in stages}:
            continue
        name = model_name(part.name)
        origin = origins.weights.get(name)
        known = weights.get((name, origin.version)) if origin else None
        if origin is None:
            faults.append(f"does not say which version of {name} it was made from")
        elif known is None:
            faults.append(f"was made from {name} version {origin.version}, which is not there")
        elif known.tags.get(CONTENT) != origin.sha256:
            faults.append(f"was made from other weights than {name} version {origin.version} now names")
    return faults
