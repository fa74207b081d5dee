"""Signature of a bundle: OpenSSF model-signing with elliptic-curve keys on this disk, so that no network is needed.

It covers the name and SHA-256 of every file, `SHA256SUMS` included; `signature.json` itself aside.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from psi0.deploy.keys import PublicKey, ensure_private_key, trusted_keys
from psi0.deploy.manifest import SIGNATURE
from psi0.errors import Psi0Error


def sign(bundle: Path) -> None:
    """Sign every file of a bundle into its `signature.json`. Raises `Psi0Error` without a usable private key."""
    try:
        from model_signing import hashing, signing
    except ImportError:
        raise Psi0Error("bundles are signed with model-signing; pip install 'psi0[deploy]' brings it") from None
    private = ensure_private_key()
    (bundle / SIGNATURE).unlink(missing_ok=True)
    scope = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    config = signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(scope)
    config.sign(bundle.absolute(), bundle.absolute() / SIGNATURE)


def check_signature(signature: bytes | None, hashes: Mapping[str, str], where: str) -> PublicKey:
    """Check that a trusted key signed these very files.

    Args:
        signature: content of `signature.json`; None where there is none.
        hashes: file -> SHA-256 of every file of the bundle, `signature.json` aside.
        where: the bundle, for messages.

    Returns:
        The key that signed.

    Raises:
        Psi0Error: not signed, signed by a key that is not trusted, the signature does not fit the files, or
            model-signing is not installed.
    """
    if signature is None:
        raise Psi0Error(f"{where} is not signed: {SIGNATURE} is missing; do not use it, fetch a signed bundle")
    try:
        from model_signing import verifying
    except ImportError:
        raise Psi0Error(
            f"the signature of {where} cannot be checked: model-signing is not installed; "
            "pip install 'psi0[deploy]' brings it"
        ) from None
    key = _signer(signature, where)
    with tempfile.TemporaryDirectory() as folder:
        public, file = Path(folder, "key.pub"), Path(folder, SIGNATURE)
        public.write_bytes(key.pem)
        file.write_bytes(signature)
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        try:
            config.set_hashing_config(_known_hashes(hashes)).verify(Path(folder), file)
        except Exception as error:
            raise Psi0Error(
                f"{where}: {SIGNATURE} does not hold for these files and key {key} ({type(error).__name__}: "
                f"{error!s:.200}); do not use it, fetch the bundle again"
            ) from None
    return key


def _signer(signature: bytes, where: str) -> PublicKey:
    """The trusted key that a signature names. What it says is only a claim until the signature is verified with it."""
    try:
        claimed = json.loads(signature)["verificationMaterial"]["publicKey"]["hint"]
    except (ValueError, KeyError, TypeError):
        raise Psi0Error(f"{where}: {SIGNATURE} is not a signature by a key; do not use it, fetch it again") from None
    trusted = trusted_keys()
    for key in trusted:
        if key.fingerprint == claimed:
            return key
    raise Psi0Error(
        f"{where} is signed by the key {claimed!s:.16}, which is not trusted here (trusted: "
        f"{', '.join(map(str, trusted))}); do not use it, or add the signer's public key to PSI0_TRUSTED_KEYS"
    )


def _known_hashes(hashes: Mapping[str, str]) -> Any:
    """A hashing configuration that has its answer: each file is read once, or never where it lies on S3."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest

    items = [
        manifest.FileManifestItem(path=PurePosixPath(name), digest=Digest("sha256", bytes.fromhex(digest)))
        for name, digest in hashes.items()
    ]
    files = manifest.SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})

    class Known(hashing.Config):  # type: ignore[misc]
        def hash(self, model_path: object, *, files_to_hash: object = None) -> Any:
            return manifest.Manifest("bundle", items, files)

    return Known()
