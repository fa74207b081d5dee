"""The audit, on a real MLflow server and a real S3 server: whatever is tampered with is named."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from psi0 import paths, storage
from psi0.cli import app
from psi0.connection import connect
from psi0.deploy.bundle import build_bundle
from psi0.deploy.publish import publish
from psi0.errors import Psi0Error
from psi0.files import write_bytes
from psi0.registry.audit import audit
from psi0.registry.lookup import fetch_policy
from psi0.registry.versions import Version, download_evidence, find_version, note
from tests.code.whole_workspace import BAD, TASK, make_whole, register, write_lock


class Objects:
    """The bucket as somebody with its key sees it."""

    def __init__(self) -> None:
        self.connection = connect()
        self.s3: Any = storage.client(self.connection)

    def read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.connection.bucket, Key=key)["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=self.connection.bucket, Key=key, Body=content)

    def remove(self, prefix: str) -> None:
        for key in storage.keys(self.s3, self.connection.bucket, prefix):
            self.s3.delete_object(Bucket=self.connection.bucket, Key=key)

    @contextmanager
    def changed(self, key: str, change: Callable[[bytes], bytes]) -> Iterator[None]:
        """An object with other content for the length of a `with` block."""
        before = self.read(key)
        self.write(key, change(before))
        try:
            yield
        finally:
            self.write(key, before)


@pytest.fixture
def objects(registry: MlflowClient) -> Iterator[Objects]:
    bucket = Objects()
    for prefix in ("bundles/", "channels/"):
        bucket.remove(prefix)
    yield bucket
    for prefix in ("bundles/", "channels/"):
        bucket.remove(prefix)


def release(client: MlflowClient, version: Version, folder: Path) -> Version:
    """What a promotion leaves behind: the alias, the bundle and the pointer to it."""
    evidence = download_evidence(client, version, folder)
    source = {"model": version.name, "version": version.number}
    source |= {name: version.tags[name] for name in ("git_commit", "git_dirty")}
    build_bundle(evidence, version.task, source, folder / "bundle")
    client.set_registered_model_alias(version.name, "champion", version.number)
    pointer = publish(folder / "bundle")
    note(client, version, bundle=pointer.bundle, bundle_address=pointer.address)
    return find_version(client, version.task, version.number)


def artifacts(version: Version) -> str:
    """Prefix of a version's evidence in the bucket."""
    return f"mlflow/{version.source.removeprefix('mlflow-artifacts:/')}"


@contextmanager
def tagged(client: MlflowClient, version: Version, **tags: str) -> Iterator[None]:
    """A version with other tags for the length of a `with` block."""
    note(client, version, **tags)
    try:
        yield
    finally:
        note(client, version, **{name: version.tags[name] for name in tags})


def test_tampering_with_evidence_bundle_tag_or_pointer_is_named(
    registry: MlflowClient, objects: Objects, tmp_path: Path
) -> None:
    bad = register(registry, make_whole(tmp_path / "bad", "bad", BAD))
    good = release(registry, register(registry, make_whole(tmp_path / "good")), tmp_path / "release")
    first = audit(registry)
    assert first.breaches == []
    assert (first.tasks, first.bundles) == (1, 1)
    again = audit(registry)
    assert again.breaches == []
    assert again.bytes_read < first.bytes_read, "what did not change is not read again"

    def breaches() -> str:
        return "\n".join(audit(registry).breaches)

    flip = artifacts(bad) + "/evaluation/policy.json"
    with objects.changed(flip, lambda content: content.replace(b'"success": false', b'"success": true')):
        found = breaches()
        assert f"{bad.label} evidence/evaluation/policy.json was changed" in found
        assert "gate.json that says refuse, its evaluation files say void" in found
    forged = json.loads(objects.read(artifacts(bad) + "/gate/gate.json")) | {"verdict": "pass", "reasons": []}
    with (
        objects.changed(artifacts(bad) + "/gate/gate.json", lambda content: json.dumps(forged).encode()),
        tagged(registry, bad, verdict="pass"),
    ):
        found = breaches()
        assert f"{bad.label} has a gate.json that says pass, its evaluation files say refuse" in found
        assert f"{bad.label} evidence/gate/gate.json was changed" in found
    for name in ("graphs/s1_step.onnx", "evaluation/videos/policy_700000.mp4", "gate/report.html"):
        with objects.changed(f"{artifacts(good)}/{name}", lambda content: content + b"x"):
            found = breaches()
            assert f"{good.label} evidence/{name} was changed" in found
            assert ("holds another graphs/s1_step.onnx" in found) == name.startswith("graphs/")
    with tagged(registry, bad, verdict="pass"):
        assert breaches() == f"{bad.label} is tagged verdict 'pass', its evidence says 'refuse'"
    edited = {"successes": "400", "plan_sha256": "0" * 64, "git_commit": "0" * 40, "attempt": "1", "psi0-system2": "9"}
    with tagged(registry, good, **edited):
        found = breaches()
        assert f"{good.label} is tagged successes '400', its evidence says '15'" in found
        assert all(f"is tagged {name} " in found for name in edited)
    bundle = good.tags["bundle_address"].removeprefix(f"s3://{objects.connection.bucket}/")
    with objects.changed(f"{bundle}/graphs/s1_step.onnx", lambda content: b"y" + content[1:]):
        assert "published bundle of pick_can does not hold" in breaches()
    pointer = f"channels/{TASK}/stable.json"
    with objects.changed(pointer, lambda content: json.dumps(json.loads(content) | {"version": bad.number}).encode()):
        assert f"pointer of pick_can names psi0-pick_can version {bad.number}" in breaches()
    registry.set_registered_model_alias(good.name, "champion", bad.number)
    found = breaches()
    assert f"alias champion names {bad.label}, whose verdict, computed again, is refuse" in found
    assert f"the champion is version {bad.number}" in found
    registry.set_registered_model_alias(good.name, "champion", good.number)
    assert audit(registry, reread=True).breaches == []


def test_what_does_not_belong_is_named(registry: MlflowClient, objects: Objects, tmp_path: Path) -> None:
    bad = register(registry, make_whole(tmp_path / "bad", "bad", BAD))
    good = register(registry, make_whole(tmp_path / "good", "good"))
    deleted = register(registry, make_whole(tmp_path / "deleted", "deleted", BAD))
    registry.delete_model_version(deleted.name, deleted.number)
    foreign, name = "psi0-push_cart", good.name
    registry.create_registered_model(foreign)
    try:
        registry.create_model_version(foreign, source=good.source, run_id=good.run_id)
        registry.set_registered_model_alias(foreign, "champion", "1")
        with pytest.raises(Psi0Error, match="holds a policy for 'pick_can'"):
            fetch_policy("models:/psi0-push_cart@champion")
        assert (fetch_policy(f"models:/{name}@candidate") / "s1_step.onnx").exists()
        hand_made = registry.create_model_version(name, source="s3://elsewhere/model")
        gone = register(registry, make_whole(tmp_path / "gone", "gone", BAD))
        objects.remove(artifacts(gone))
        with pytest.raises(Psi0Error, match="fetching the evidence"):
            download_evidence(registry, gone, tmp_path, "dvc.lock")
        registry.delete_run(bad.run_id)
        note(registry, good, promotion="overridden", promoted_by="kim", promoted_because="the demo is today")
        registry.set_registered_model_alias(name, "champion", good.number)
        registry.set_registered_model_tag(name, "psi0.champion", bad.number)
        objects.write(f"bundles/{TASK}/{'a' * 64}/manifest.json", b"{}")
        objects.write(f"bundles/{TASK}/{'b' * 64}/SHA256SUMS", b"")
        objects.write("channels/other/stable.json", b"{}")
        weights = find_version(registry, "system1", good.tags["psi0-system1"])
        with objects.changed(f"{artifacts(weights)}/system1.safetensors", lambda content: content[:-1]):
            found = audit(registry)
        text = "\n".join(found.breaches)
        for expected in (
            "psi0-push_cart version 1 cannot be judged again: the evidence is for task 'pick_can', not for 'push_cart'",
            "alias champion names psi0-push_cart version 1, whose verdict, computed again, is unknown",
            f"{name} version {hand_made.version} has no run",
            f"{bad.label} names run {bad.run_id}, which is not there",
            f"{name} counts 4 attempts under plan {good.tags['plan_sha256'][:16]}, but 3 are there",
            f"{gone.label} has no manifest of its evidence: it was deleted",
            f"the last promotion made version {bad.number} champion",
            f"{good.label} is champion, but no bundle of pick_can is published",
            f"{'a' * 64} is an unfinished upload",
            f"{'b' * 64} is an orphan bundle",
            "channels/other belongs to no registered policy",
            f"{weights.label} does not hold the weights that it was registered with",
        ):
            assert expected in text, expected
        assert found.overrides == [
            f"champion {good.label} was promoted against the rule by kim: the demo is today (verdict pass)"
        ]
        answer = CliRunner().invoke(app, ["registry", "audit", TASK])
        assert answer.exit_code == 1
        assert answer.stdout.splitlines()[0].startswith("OVERRIDE champion")
        assert answer.stdout.splitlines()[-1].startswith("audit: 1 task, ")
        with pytest.raises(Psi0Error, match="psi0-dance is not registered"):
            audit(registry, "dance")
    finally:
        registry.delete_registered_model(foreign)


def test_a_system2_that_learned_beside_the_expert_is_part_of_its_weights(
    registry: MlflowClient, objects: Objects, tmp_path: Path
) -> None:
    workspace = make_whole(tmp_path / "cotrained", "cotrained", weights="cotrained")
    write_bytes(workspace / paths.COTRAINED_SYSTEM2 / "system2.safetensors", b"it learned too")
    write_lock(workspace)
    version = register(registry, workspace)
    weights = find_version(registry, "system1", version.tags["psi0-system1"])
    assert weights.description.startswith("The action expert after stage 2, with the System-2 that learned beside it")
    assert audit(registry).breaches == []
    with objects.changed(f"{artifacts(weights)}/system2/system2.safetensors", lambda content: content[:-1]):
        assert f"{weights.label} does not hold the weights" in "\n".join(audit(registry).breaches)


@pytest.mark.long
def test_a_hundred_versions_are_audited_in_twenty_seconds(
    registry: MlflowClient, objects: Objects, tmp_path: Path
) -> None:
    for number in range(100):
        workspace = make_whole(tmp_path / str(number), f"policy {number}", graph_bytes=6_000_000)
        version = register(registry, workspace)
    release(registry, version, tmp_path / "release")
    seconds = []
    for what in ("first", "second"):
        begin = time.monotonic()
        found = audit(registry, TASK)
        seconds.append(time.monotonic() - begin)
        print(f"{what} audit of 100 versions: {seconds[-1]:.1f} s, {found.bytes_read / 1e6:.0f} MB read")
        assert found.breaches == []
    assert max(seconds) < 20
