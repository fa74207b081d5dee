"""The root of trust: a key pair made once, a list of trusted keys, and every other bundle refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from typer.testing import CliRunner

from psi0 import storage
from psi0.cli import app
from psi0.connection import connect
from psi0.deploy.bundle import build_bundle
from psi0.deploy.demo import find_bundle
from psi0.deploy.keys import PublicKey, make_keys, trusted_keys
from psi0.deploy.manifest import write_sums
from psi0.deploy.publish import publish, upload
from psi0.deploy.pull import pull
from psi0.deploy.signature import sign
from psi0.deploy.verify import verify, verify_folder
from psi0.errors import Psi0Error
from psi0.files import sha256_file
from psi0.settings import Settings

SOURCE = {"model": "psi0-pick_can", "version": "3", "git_commit": "f" * 40, "git_dirty": "false"}


@pytest.fixture
def bundle(evidence: Path, tmp_path: Path, use_settings: Callable[..., None]) -> Path:
    """A bundle signed by the key of this test's own home."""
    use_settings(home=tmp_path / "home")
    build_bundle(evidence, "pick_can", SOURCE, tmp_path / "bundle")
    return tmp_path / "bundle"


def _both(*paths: Path) -> str:
    return os.pathsep.join(map(str, paths))


def test_a_pair_is_made_once_and_never_overwritten(tmp_path: Path) -> None:
    key = make_keys(tmp_path / "keys")
    private, public = tmp_path / "keys/signing.pem", tmp_path / "keys/signing.pub"
    assert private.stat().st_mode & 0o777 == 0o600
    assert sha256_file(public) == key.fingerprint, "a person can check it with sha256sum"
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(Psi0Error, match="stays"):
        make_keys(tmp_path / "keys")
    private.unlink()
    with pytest.raises(Psi0Error, match=r"signing\.pub is there already"):
        make_keys(tmp_path / "keys")
    assert before[1] == public.read_bytes()
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["signing.pub"], "nothing half-made is left"


def test_of_two_that_make_keys_at_once_one_wins(tmp_path: Path) -> None:
    def attempt(_: int) -> PublicKey | None:
        try:
            return make_keys(tmp_path / "keys")
        except Psi0Error:
            return None

    with ThreadPoolExecutor(8) as team:
        made = [key for key in team.map(attempt, range(8)) if key is not None]
    assert len(made) == 1
    assert made[0].fingerprint == sha256_file(tmp_path / "keys/signing.pub")


def test_the_commands_make_and_show_keys(tmp_path: Path, use_settings: Callable[..., None]) -> None:
    use_settings(home=tmp_path / "home")
    runner = CliRunner()
    made = runner.invoke(app, ["keys", "new"])
    fingerprint = sha256_file(tmp_path / "home/keys/signing.pub")
    assert made.exit_code == 0 and fingerprint in made.output
    shown = runner.invoke(app, ["keys", "show"]).output
    assert f"signs    {fingerprint}" in shown and f"trusted  {fingerprint}" in shown
    runner.invoke(app, ["keys", "new", "--out", str(tmp_path / "other")])
    other = sha256_file(tmp_path / "other/signing.pub")
    use_settings(trusted_keys=tmp_path / "other/signing.pub")
    shown = runner.invoke(app, ["keys", "show"]).output
    assert f"signs    {fingerprint}" in shown and f"trusted  {other}" in shown and "is not trusted here" in shown


def test_the_own_key_is_trusted_until_somebody_names_others(
    bundle: Path, tmp_path: Path, use_settings: Callable[..., None]
) -> None:
    own = sha256_file(tmp_path / "home/keys/signing.pub")
    assert verify_folder(bundle).signature.startswith(f"valid, key {own[:16]}")
    theirs = make_keys(tmp_path / "theirs")
    use_settings(trusted_keys=tmp_path / "theirs")
    assert [key.fingerprint for key in trusted_keys()] == [theirs.fingerprint]
    with pytest.raises(Psi0Error, match=f"signed by the key {own[:16]}, which is not trusted"):
        verify_folder(bundle)
    use_settings(trusted_keys=_both(tmp_path / "theirs", tmp_path / "home/keys/signing.pub"))
    assert verify_folder(bundle).signature.startswith(f"valid, key {own[:16]}")


def test_a_machine_that_knows_no_key_trusts_none(
    bundle: Path, tmp_path: Path, use_settings: Callable[..., None]
) -> None:
    use_settings(home=tmp_path / "robot")
    with pytest.raises(Psi0Error, match=r"no key is trusted on this machine.*PSI0_TRUSTED_KEYS"):
        verify_folder(bundle)
    assert not (tmp_path / "robot/keys").exists(), "to verify makes no keys"
    use_settings(trusted_keys="")
    with pytest.raises(Psi0Error, match="names nothing"):
        verify_folder(bundle)


def _missing(folder: Path) -> Path:
    return folder / "nowhere.pub"


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _private(folder: Path) -> Path:
    make_keys(folder / "pair")
    return folder / "pair/signing.pem"


def _other_kind(folder: Path) -> Path:
    key = rsa.generate_private_key(65537, 2048).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "rsa.pub").write_bytes(pem)
    return folder / "rsa.pub"


def _garbage(folder: Path) -> Path:
    (folder / "garbage.pub").write_text("-----BEGIN PUBLIC KEY-----\nnothing\n")
    return folder / "garbage.pub"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, r"nowhere\.pub does not exist"),
        (_empty, r"holds no \*\.pub"),
        (_private, "is a private key"),
        (_other_kind, "kind RSAPublicKey"),
        (_garbage, "not a public key in PEM"),
    ],
)
def test_what_is_no_key_cannot_be_trusted(
    make: Callable[[Path], Path], words: str, tmp_path: Path, use_settings: Callable[..., None]
) -> None:
    make_keys(tmp_path / "good")
    use_settings(trusted_keys=_both(tmp_path / "good", make(tmp_path)))
    with pytest.raises(Psi0Error, match=words):
        trusted_keys()


def _readable(private: Path) -> None:
    private.chmod(0o644)


def _broken(private: Path) -> None:
    private.write_text("no key")


def _locked(private: Path) -> None:
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"secret")
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password))


@pytest.mark.parametrize(
    ("harm", "words"), [(_readable, "chmod 600"), (_broken, "not a private key"), (_locked, "without a password")]
)
def test_a_private_key_that_cannot_be_used_signs_nothing(
    harm: Callable[[Path], None], words: str, bundle: Path, tmp_path: Path, use_settings: Callable[..., None]
) -> None:
    make_keys(tmp_path / "pair")
    harm(tmp_path / "pair/signing.pem")
    use_settings(signing_key=tmp_path / "pair/signing.pem")
    with pytest.raises(Psi0Error, match=words):
        sign(bundle)
    use_settings(signing_key=tmp_path / "nowhere.pem")
    with pytest.raises(Psi0Error, match="PSI0_SIGNING_KEY"):
        sign(bundle)


Use = Callable[..., None]


def _unsigned(bundle: Path, tmp_path: Path, use_settings: Use) -> None:
    (bundle / "signature.json").unlink()


def _of_another_bundle(bundle: Path, tmp_path: Path, use_settings: Use) -> None:
    (bundle / "limits.json").write_text("{}")
    write_sums(bundle)


def _forged_name(bundle: Path, tmp_path: Path, use_settings: Use) -> None:
    """Signed by a stranger, and the signature says that it is by the trusted key."""
    trusted = json.loads((bundle / "signature.json").read_text())["verificationMaterial"]
    make_keys(tmp_path / "stranger")
    use_settings(signing_key=tmp_path / "stranger/signing.pem")
    sign(bundle)
    forged = {**json.loads((bundle / "signature.json").read_text()), "verificationMaterial": trusted}
    (bundle / "signature.json").write_text(json.dumps(forged))


def _altered_list(bundle: Path, tmp_path: Path, use_settings: Use) -> None:
    signature = json.loads((bundle / "signature.json").read_text())
    payload = signature["dsseEnvelope"]["payload"]
    signature["dsseEnvelope"]["payload"] = payload[:-8] + "AAAA" + payload[-4:]
    (bundle / "signature.json").write_text(json.dumps(signature))


def _no_signature_at_all(bundle: Path, tmp_path: Path, use_settings: Use) -> None:
    (bundle / "signature.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_unsigned, "is not signed"),
        (_of_another_bundle, r"signature\.json does not hold"),
        (_forged_name, r"signature\.json does not hold"),
        (_altered_list, r"signature\.json does not hold"),
        (_no_signature_at_all, "not a signature by a key"),
    ],
)
def test_a_bundle_without_a_trusted_signature_is_refused(
    harm: Callable[[Path, Path, Use], None], words: str, bundle: Path, tmp_path: Path, use_settings: Use
) -> None:
    use_settings(trusted_keys=tmp_path / "home/keys")
    harm(bundle, tmp_path, use_settings)
    for check in (verify, lambda folder: find_bundle(folder, "pick_can")):
        with pytest.raises(Psi0Error, match=words):
            check(str(bundle))


def test_without_the_library_nothing_is_trusted(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(Psi0Error, match=r"model-signing is not installed; pip install 'psi0\[deploy\]'"):
        verify_folder(bundle)
    with pytest.raises(Psi0Error, match="model-signing"):
        sign(bundle)


def test_others_can_verify_a_bundle_with_the_library_alone(bundle: Path, tmp_path: Path) -> None:
    command = [Path(sys.executable).parent / "model_signing", "verify", "key", bundle]
    command += ["--signature", bundle / "signature.json", "--public_key", tmp_path / "home/keys/signing.pub"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0 and "succeeded" in answer.stdout + answer.stderr


def test_strangers_are_refused_on_s3_and_a_new_key_signs_anew(
    s3: Settings, evidence: Path, tmp_path: Path, use_settings: Callable[..., None]
) -> None:
    old, new = make_keys(tmp_path / "old"), make_keys(tmp_path / "new")
    use_settings(signing_key=tmp_path / "old/signing.pem", trusted_keys=tmp_path / "old")
    build_bundle(evidence, "pick_can", {**SOURCE, "version": "71"}, tmp_path / "bundle")
    address = publish(tmp_path / "bundle").address
    assert old.fingerprint[:16] in verify(address).signature

    use_settings(trusted_keys=tmp_path / "new")
    for refused in (verify, pull, lambda _: pull("pick_can"), lambda _: find_bundle(None, "pick_can"), publish):
        with pytest.raises(Psi0Error, match=f"signed by the key {old.fingerprint[:16]}, which is not trusted"):
            refused(tmp_path / "bundle" if refused is publish else address)

    use_settings(signing_key=tmp_path / "new/signing.pem")
    build_bundle(evidence, "pick_can", {**SOURCE, "version": "71"}, tmp_path / "again")
    assert upload(tmp_path / "again") == address, "keys change, content does not"
    assert new.fingerprint[:16] in verify(address).signature
    assert pull(address, tmp_path / "robot").is_dir()


def test_a_signature_is_checked_on_s3_without_fetching_the_bundle(s3: Settings, evidence: Path, tmp_path: Path) -> None:
    build_bundle(evidence, "pick_can", {**SOURCE, "version": "72"}, tmp_path / "bundle")
    address = upload(tmp_path / "bundle")
    connection, key = connect(), address.split("/", 3)[3] + "/signature.json"
    client = storage.client(connection)
    build_bundle(evidence, "pick_can", {**SOURCE, "version": "73"}, tmp_path / "other")
    client.put_object(Bucket=connection.bucket, Key=key, Body=(tmp_path / "other/signature.json").read_bytes())
    with pytest.raises(Psi0Error, match=r"signature\.json does not hold"):
        verify(address)
    client.delete_object(Bucket=connection.bucket, Key=key)
    with pytest.raises(Psi0Error, match="is not signed"):
        verify(address)
    with pytest.raises(Psi0Error, match="is not signed"):
        pull(address, tmp_path / "robot")
    assert not (tmp_path / "robot").exists()
    assert upload(tmp_path / "bundle") == address, "what is missing comes back"
