"""`psi0 bundle verify`: every byte of a bundle against its sums, wherever it lies; and the signature over them."""

from dataclasses import dataclass
from pathlib import Path

from psi0 import storage
from psi0.connection import connect
from psi0.deploy.listing import read_listing
from psi0.deploy.manifest import SIGNATURE, SUMS, compare, parse_sums, read_manifest
from psi0.deploy.signature import check_signature
from psi0.errors import Psi0Error
from psi0.files import folder_files, sha256_file


@dataclass(frozen=True)
class Verified:
    """A bundle that is whole and signed by a trusted key: its name, its size, and the key."""

    name: str
    files: int
    bytes: int
    signature: str


def verify(address: str) -> Verified:
    """Check a bundle in a folder or below an `s3://` prefix; on S3 every byte is read, nothing is kept.

    Raises:
        Psi0Error: it is no bundle, a file was changed, is missing or does not belong to it (all such files are
            named), or no trusted key signed it.
    """
    return _verify_s3(address) if address.startswith("s3://") else verify_folder(Path(address))


def verify_folder(bundle: Path) -> Verified:
    """`verify` for a folder."""
    if not bundle.is_dir():
        raise Psi0Error(f"{bundle} is no folder; name a bundle's folder or its s3:// address")
    read_manifest(bundle)
    links = [path for path in bundle.rglob("*") if path.is_symlink()]
    if links:
        raise Psi0Error(f"{links[0]} is a symbolic link; a bundle has none: fetch it again")
    if not (bundle / SUMS).exists():
        raise Psi0Error(f"{bundle / SUMS} is missing; fetch the bundle again")
    text = (bundle / SUMS).read_bytes()
    found = {file.as_posix(): sha256_file(bundle / file) for file in folder_files(bundle)}
    compare(parse_sums(text.decode(errors="replace"), str(bundle)), found, str(bundle))
    size = sum((bundle / file).stat().st_size for file in found)
    signature = (bundle / SIGNATURE).read_bytes() if found.pop(SIGNATURE, None) else None
    key = check_signature(signature, found, str(bundle))
    return Verified(found[SUMS], len(found) + 1, size, f"valid, key {key}")


def _verify_s3(address: str) -> Verified:
    listing, connection = read_listing(address), connect()
    s3 = storage.client(connection)
    try:
        with storage.explained(connection, listing.location("")[0]):
            found = {name: storage.read_sha256(s3, *listing.location(name)) for name in listing.sums}
    except FileNotFoundError as error:
        raise Psi0Error(f"{address}: a file vanished while it was read ({error}); try again") from None
    compare(listing.sums, found, address)
    return Verified(listing.name, len(listing.sizes), sum(listing.sizes.values()), f"valid, key {listing.signer}")
