"""The key that signs bundles here, and the keys whose signatures are trusted: the root of trust is a list of files.

A fingerprint is the SHA-256 of a public key's PEM text: what `sha256sum signing.pub` prints, and what a signature
names as its signer.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psi0.errors import Psi0Error
from psi0.files import fsync_path, temporary_name, write_bytes
from psi0.settings import settings

PRIVATE, PUBLIC = "signing.pem", "signing.pub"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_OTHERS = 0o007


@dataclass(frozen=True)
class PublicKey:
    """A public key: its fingerprint (64 hexadecimal digits), its PEM text, and the file it was read from."""

    fingerprint: str
    pem: bytes
    file: Path

    def __str__(self) -> str:
        return f"{self.fingerprint[:16]} ({self.file.name})"


def private_key_file() -> Path:
    """The private key that signs here: `PSI0_SIGNING_KEY`, or the one in this checkout's own folder."""
    config = settings()
    return config.signing_key or config.home.absolute() / "keys" / PRIVATE


def make_keys(folder: Path) -> PublicKey:
    """Make a key pair (ECDSA, P-256): `signing.pem`, mode 600, and `signing.pub`, which others get.

    Raises:
        Psi0Error: one of the two is there already (nothing is overwritten), or the folder cannot be written.
    """
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = folder / PRIVATE, folder / PUBLIC
    for file in (private, public):
        if file.exists():
            raise Psi0Error(f"{file} is there already and stays; name another folder with --out")
    text = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = temporary_name(private)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        # Unlike a rename, a link never replaces a key that another process made in the meantime.
        os.link(temporary, private)
        fsync_path(folder)
    except FileExistsError:
        raise Psi0Error(f"{private} is there already and stays; name another folder with --out") from None
    except OSError as error:
        raise Psi0Error(f"{folder}: cannot write the keys ({error.strerror}); name another folder with --out") from None
    finally:
        temporary.unlink(missing_ok=True)
    key = _public_part(private)
    write_bytes(public, key.pem)
    return key


def ensure_private_key() -> Path:
    """The private key that signs here, made now where the settings name none. Raises `Psi0Error`."""
    private = private_key_file()
    if not private.exists():
        if settings().signing_key is not None:
            raise Psi0Error(f"{private} (PSI0_SIGNING_KEY) does not exist; `psi0 keys new` makes one, or unset it")
        make_keys(private.parent)
    _public_part(private)
    return private


def own_key() -> PublicKey | None:
    """The public part of the key that signs here; None before there is one. Raises `Psi0Error` for a broken key."""
    private = private_key_file()
    return _public_part(private) if private.exists() else None


def trusted_keys() -> list[PublicKey]:
    """The keys whose signatures count: those of `PSI0_TRUSTED_KEYS`, else the key that was made on this machine.

    Raises:
        Psi0Error: there is none, or something that is named is missing or no public key.
    """
    named = settings().trusted_keys
    if named is None:
        own = own_key()
        if own is None:
            raise Psi0Error(
                "no key is trusted on this machine: name the signer's public key (its signing.pub) in "
                "PSI0_TRUSTED_KEYS; `psi0 keys show` tells it there"
            )
        return [own]
    found: dict[str, PublicKey] = {}
    for place in named:
        files = sorted(place.glob("*.pub")) if place.is_dir() else [place]
        if not files or not files[0].exists():
            what = "holds no *.pub" if place.is_dir() else "does not exist"
            raise Psi0Error(f"PSI0_TRUSTED_KEYS: {place} {what}; name a public key or a folder of them")
        for file in files:
            key = _read_public(file)
            found.setdefault(key.fingerprint, key)
    if not found:
        raise Psi0Error("PSI0_TRUSTED_KEYS is set but names nothing; name the signer's public key, or unset it")
    return list(found.values())


def _read_public(file: Path) -> PublicKey:
    serialization = _serialization()
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        content = file.read_bytes()
        if b"PRIVATE KEY" in content:
            raise Psi0Error(f"{file} is a private key; trust its {PUBLIC}, and keep the private key to the signer")
        return _describe(serialization.load_pem_public_key(content), file)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise Psi0Error(f"{file} is not a public key in PEM ({error!s:.100}); `psi0 keys new` makes a pair") from None


def _public_part(private: Path) -> PublicKey:
    serialization = _serialization()
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        if private.stat().st_mode & _OTHERS:
            raise Psi0Error(f"{private} can be read by everybody on this machine; chmod 600 {private}")
        key = serialization.load_pem_private_key(private.read_bytes(), None)
        return _describe(key.public_key(), private.with_suffix(".pub"))
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise Psi0Error(
            f"{private} is not a private key in PEM without a password ({error!s:.100}); `psi0 keys new` makes one"
        ) from None


def _describe(key: Any, file: Path) -> PublicKey:
    serialization = _serialization()
    curve = getattr(getattr(key, "curve", None), "name", type(key).__name__)
    if curve not in _CURVES:
        raise Psi0Error(f"{file} is a key of kind {curve}; bundles are signed with {', '.join(_CURVES)}")
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(hashlib.sha256(pem).hexdigest(), pem, file)


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise Psi0Error("keys need the cryptography package; pip install 'psi0[deploy]' brings it") from None
    return serialization
