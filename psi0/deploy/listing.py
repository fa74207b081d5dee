"""A bundle on S3 as its signed list describes it: who signed what, before anything large is read."""

import hashlib
import json
from dataclasses import dataclass

from psi0 import storage
from psi0.connection import connect
from psi0.deploy.keys import PublicKey
from psi0.deploy.manifest import MANIFEST, SIGNATURE, SUMS, Manifest, compare_names, parse_manifest, parse_sums
from psi0.deploy.signature import check_signature
from psi0.errors import Psi0Error


@dataclass(frozen=True)
class Listing:
    """What a bundle below an `s3://` prefix consists of.

    Attributes:
        address: where it lies.
        name: SHA-256 of its `SHA256SUMS`.
        sums: file -> SHA-256, `SHA256SUMS` and `signature.json` aside.
        sizes: file -> size [bytes], of every file.
        content: the small files that were read already: `SHA256SUMS`, `signature.json`, `manifest.json`.
        manifest: what it says about itself.
        signer: the trusted key that signed it.
    """

    address: str
    name: str
    sums: dict[str, str]
    sizes: dict[str, int]
    content: dict[str, bytes]
    manifest: Manifest
    signer: PublicKey

    def location(self, file: str) -> tuple[str, str]:
        """(bucket, key) of one of its files."""
        bucket, prefix = storage.split_address(self.address)
        return bucket, f"{prefix}/{file}"


def read_listing(address: str) -> Listing:
    """Read a bundle's list and check its name, its signature, its manifest, and that exactly its files lie there.

    The bytes of its other files are not read: see `psi0.deploy.verify` and `psi0.deploy.pull`.

    Raises:
        Psi0Error: there is no bundle, files are missing or too many, the name does not fit the content, no trusted
            key signed it, or S3 cannot be reached.
    """
    connection = connect()
    bucket, prefix = storage.split_address(address)
    s3 = storage.client(connection)
    try:
        with storage.explained(connection, bucket):
            found = storage.keys(s3, bucket, f"{prefix}/")
            sizes = {key.removeprefix(f"{prefix}/"): size for key, size in found.items()}
            small = [name for name in (SUMS, SIGNATURE, MANIFEST) if name in sizes]
            content = {name: storage.read_bytes(s3, bucket, f"{prefix}/{name}")[0] for name in small}
    except FileNotFoundError as error:
        raise Psi0Error(f"{address}: a file vanished while it was read ({error}); try again") from None
    if SUMS not in content:
        raise Psi0Error(
            f"{address} holds no bundle: {SUMS} is missing there; `psi0 bundle history TASK` tells what was published"
        )
    sums = parse_sums(content[SUMS].decode(errors="replace"), address)
    name = hashlib.sha256(content[SUMS]).hexdigest()
    named = prefix.rsplit("/", 1)[-1]
    if len(named) == len(name) and named != name:
        raise Psi0Error(f"{address}: the content's name is {name}; somebody replaced the bundle, publish it anew")
    compare_names(sums, sizes, address)
    signer = check_signature(content.get(SIGNATURE), {**sums, SUMS: name}, address)
    if hashlib.sha256(content[MANIFEST]).hexdigest() != sums[MANIFEST]:
        raise Psi0Error(f"{address}: {MANIFEST} was changed; do not use the bundle, publish it anew")
    try:
        manifest = parse_manifest(json.loads(content[MANIFEST]), f"{address}/{MANIFEST}")
    except json.JSONDecodeError as error:
        raise Psi0Error(f"{address}/{MANIFEST} is not valid JSON ({error}); publish the bundle anew") from None
    return Listing(address, name, sums, sizes, content, manifest, signer)
