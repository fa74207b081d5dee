"""What an audit asks of a task's alias, pointer and bundles: what is deployed is the champion, byte for byte."""

from dataclasses import dataclass, field

from mlflow.entities.model_registry import RegisteredModel
from pydantic import ValidationError

from psi0.deploy.manifest import MANIFEST, SIGNATURE, SUMS, Manifest, parse_sums
from psi0.deploy.publish import Pointer, read_pointer
from psi0.deploy.verify import verify
from psi0.errors import Psi0Error
from psi0.registry.audit_version import Checked
from psi0.registry.evidence_files import ObjectReader
from psi0.registry.versions import CANDIDATE, CHAMPION, PREVIOUS, Version, model_name

_RECORD = "psi0.champion"
"""Tag of a registered model: the champion that the last promotion recorded."""
_FROM_EVIDENCE = ("policy_sha256", "graphs_sha256", "plan_sha256", "git_commit")


@dataclass
class Deployed:
    """What was found out about what a task deploys.

    Attributes:
        faults: whole sentences.
        overrides: promotions against the rule, in words; no fault, but nobody shall overlook them.
        bundles: how many were checked.
    """

    faults: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    bundles: int = 0


def check_deployment(model: RegisteredModel, checked: dict[str, Checked], reader: ObjectReader) -> Deployed:
    """Check aliases, pointer and bundles of a task.

    Args:
        model: the task's registered model.
        checked: its versions by number, checked already.
        reader: reads the bundles.

    Raises:
        Psi0Error: S3 cannot be reached.
    """
    found = Deployed()
    aliases = {alias: str(number) for alias, number in model.aliases.items()}
    champion = checked.get(aliases.get(CHAMPION, ""))
    _aliases(model, aliases, checked, found)
    task = model.name.removeprefix(model_name(""))
    try:
        pointer = read_pointer(task)
    except Psi0Error as error:
        found.faults.append(f"pointer of {task}: {error}")
        pointer = None
    else:
        found.faults += _pointer(task, pointer, champion.version if champion else None)
    owners = {one.version.tags["bundle"]: one for one in checked.values() if "bundle" in one.version.tags}
    found.bundles, faults = _bundles(task, owners, reader, skip=pointer.bundle if pointer else "")
    found.faults += faults
    if pointer is not None:
        found.bundles += 1
        found.faults += _deployed(pointer, owners, reader)
    return found


def _aliases(model: RegisteredModel, aliases: dict[str, str], checked: dict[str, Checked], found: Deployed) -> None:
    for alias in (CHAMPION, CANDIDATE):
        one = checked.get(aliases.get(alias, ""))
        if one is None or one.verdict == "pass":
            continue
        tags, label = one.version.tags, one.version.label
        if alias == CHAMPION and tags.get("promotion") == "overridden":
            continue
        found.faults.append(
            f"alias {alias} names {label}, whose verdict, computed again, is {one.verdict}"
            + ("" if one.verdict == one.version.verdict else f" (its tag says {one.version.verdict})")
        )
    for alias in (CHAMPION, PREVIOUS):
        one = checked.get(aliases.get(alias, ""))
        if one is not None and one.version.tags.get("promotion") == "overridden":
            tags = one.version.tags
            found.overrides.append(
                f"{alias} {one.version.label} was promoted against the rule by {tags.get('promoted_by', 'unknown')}: "
                f"{tags.get('promoted_because', 'no reason given')} (verdict {one.verdict})"
            )
    for alias, number in aliases.items():
        if number not in checked:
            found.faults.append(f"alias {alias} of {model.name} names version {number}, which does not exist")
    recorded = model.tags.get(_RECORD)
    if recorded and recorded != aliases.get(CHAMPION):
        found.faults.append(
            f"alias champion of {model.name} names version {aliases.get(CHAMPION, 'none')}, the last promotion made "
            f"version {recorded} champion"
        )


def _pointer(task: str, pointer: Pointer | None, champion: Version | None) -> list[str]:
    """Whether what is deployed is the champion."""
    if pointer is None:
        return [] if champion is None else [f"{champion.label} is champion, but no bundle of {task} is published"]
    says = f"the published pointer of {task} names {pointer.model} version {pointer.version}"
    if champion is None:
        return [f"{says}, but {task} has no champion"]
    if (pointer.model, pointer.version) != (champion.name, champion.number):
        return [f"{says}, the champion is version {champion.number}"]
    if pointer.bundle != champion.tags.get("bundle"):
        return [
            f"{says} with bundle {pointer.bundle[:12]}, but its tag names {champion.tags.get('bundle', 'none')[:12]}"
        ]
    if pointer.address != champion.tags.get("bundle_address"):
        return [f"{says} at {pointer.address}, but its tag names {champion.tags.get('bundle_address')}"]
    return []


def _deployed(pointer: Pointer, owners: dict[str, Checked], reader: ObjectReader) -> list[str]:
    """The bundle that robots fetch: every byte read now, its signature, and whose evidence it is."""
    try:
        name = verify(pointer.address).name
    except (Psi0Error, FileNotFoundError) as error:
        return [f"the published bundle of {pointer.task} does not hold: {error}"]
    if name != pointer.bundle:
        return [f"the published pointer of {pointer.task} names bundle {pointer.bundle[:12]} at {pointer.address}"]
    if name not in owners:
        return []
    bundle = _Bundle(reader, f"bundles/{pointer.task}/{name}/", owners[name])
    return bundle.origin()


def _bundles(task: str, owners: dict[str, Checked], reader: ObjectReader, skip: str) -> tuple[int, list[str]]:
    """Every other bundle of a task on S3: named by a version, whole, made from that version's evidence."""
    bucket, prefix = reader.connection.bucket, f"bundles/{task}/"
    stored: dict[str, set[str]] = {}
    for key in reader.listing(bucket, prefix):
        name, _, file = key.partition("/")
        stored.setdefault(name, set()).add(file)
    faults = [
        f"{owner.version.label} names bundle {name[:12]}, which is not on S3"
        for name, owner in owners.items()
        if name not in stored
    ]
    for name, files in stored.items():
        address = f"s3://{bucket}/{prefix}{name}"
        if name not in owners:
            kind = "an orphan bundle" if SUMS in files else "an unfinished upload"
            faults.append(f"{address} is {kind}: no version of {model_name(task)} names it")
        elif name != skip:
            bundle = _Bundle(reader, f"{prefix}{name}/", owners[name])
            faults += bundle.whole() or bundle.origin()
    return len(stored.keys() - {skip}), faults


class _Bundle:
    """A bundle on S3 and the version that names it."""

    def __init__(self, reader: ObjectReader, prefix: str, owner: Checked) -> None:
        self._reader, self._prefix, self._owner = reader, prefix, owner
        self._bucket = reader.connection.bucket
        self._stamps = reader.listing(self._bucket, prefix)
        self._called = f"s3://{self._bucket}/{prefix.rstrip('/')}, the bundle of {owner.version.label},"

    def whole(self) -> list[str]:
        """What of it is not what it was."""
        if SUMS not in self._stamps:
            return [f"{self._called} has no {SUMS}"]
        text, name = self._read(SUMS)
        if name != self._owner.version.tags["bundle"]:
            return [f"{self._called} was replaced: its name would be {name[:12]}"]
        try:
            sums = parse_sums(text.decode(errors="replace"), self._called)
        except Psi0Error as error:
            return [str(error)]
        found = {
            file: self._reader.sha256(self._bucket, self._prefix + file, stamp)
            for file, stamp in self._stamps.items()
            if file not in (SUMS, SIGNATURE)
        }
        wrong = sorted(file for file in sums.keys() | found.keys() if sums.get(file) != found.get(file))
        return [f"{self._called} was changed: {', '.join(wrong[:5])}"] if wrong else []

    def origin(self) -> list[str]:
        """Whether it was made from the version that names it: what it says, and the files both have.

        A bundle is signed and a version is not: who rewrites the whole of a version's evidence is found out here.
        """
        version, hashes = self._owner.version, self._owner.hashes
        try:
            source = Manifest.model_validate_json(self._read(MANIFEST)[0]).source
            sums = parse_sums(self._read(SUMS)[0].decode(errors="replace"), self._called)
        except ValidationError as error:
            return [f"{self._called} has no manifest this psi0 reads ({error.error_count()} problems)"]
        except Psi0Error as error:
            return [str(error)]
        if (source.model, source.version) != (version.name, version.number):
            return [f"{self._called} was made from {source.model} version {source.version}"]
        faults = [
            f"{self._called} has {name} {getattr(source, name)[:12]}, the version {version.tags.get(name, 'none')[:12]}"
            for name in _FROM_EVIDENCE
            if getattr(source, name) != version.tags.get(name)
        ]
        differing = [file for file in sums if hashes.get(_registered_as(file), sums[file]) != sums[file]]
        if differing:
            faults.append(f"{self._called} holds another {', '.join(differing[:5])} than the version's evidence")
        return faults

    def _read(self, file: str) -> tuple[bytes, str]:
        return self._reader.read(self._bucket, self._prefix + file, self._stamps.get(file, ""))


def _registered_as(file: str) -> str:
    """Where a file of a bundle lies in the evidence it was copied from; empty for one that was not."""
    folder, _, name = file.partition("/")
    if folder != "evidence":
        return "" if file == MANIFEST else file
    # The report grows when the version is promoted.
    return {"gate.json": "gate/gate.json", "report.html": ""}.get(name, f"evaluation/{name}")
