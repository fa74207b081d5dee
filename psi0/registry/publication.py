"""The bundle of a version: built from its registered evidence, uploaded, and verified where it lies."""

from pathlib import Path

from mlflow import MlflowClient

from psi0.deploy.bundle import build_bundle
from psi0.deploy.publish import upload
from psi0.deploy.verify import verify
from psi0.errors import Psi0Error
from psi0.registry.rule import fetched
from psi0.registry.versions import Version, find_version, note
from psi0.settings import settings


def publish_version(client: MlflowClient, version: Version, override: str = "", evidence: Path | None = None) -> str:
    """Make sure that the bundle of a version lies on S3, every byte verified; returns its address.

    The version remembers the address: doing it again builds and uploads nothing. No pointer moves.

    Args:
        override: who wants it deployed against the rule, and why; the bundle says so.
        evidence: the version's evidence, where it is at hand.

    Raises:
        Psi0Error: the evidence is not whole, or S3 or MLflow cannot be reached.
    """
    tags = find_version(client, version.task, version.number).tags
    known = tags.get("bundle_address")
    if tags.get("promotion") == "overridden":
        override = override or f"{tags.get('promoted_by', 'unknown')}: {tags.get('promoted_because', '')}"
    elif override:
        known = None
    if known is not None:
        try:
            verify(known)
            return known
        except (Psi0Error, FileNotFoundError):
            pass
    if evidence is not None:
        bundle = make_bundle(version, evidence, override)
    else:
        with fetched(client, version) as stored:
            if stored is None:
                raise Psi0Error(f"{version.label} has no evidence to make a bundle of; register it with the recipe")
            bundle = make_bundle(version, stored.folder, override)
    address = upload(bundle)
    note(client, version, bundle=address.rsplit("/", 1)[-1], bundle_address=address)
    return address


def make_bundle(version: Version, evidence: Path, override: str = "") -> Path:
    """Build the bundle of a version from its registered evidence; returns its folder."""
    target = settings().home.absolute() / "bundles" / version.task / version.number
    source = {
        "model": version.name,
        "version": version.number,
        "git_commit": version.tags.get("git_commit", "unknown"),
        "git_dirty": version.tags.get("git_dirty", "false"),
    }
    build_bundle(evidence, version.task, source, target, override)
    return target
