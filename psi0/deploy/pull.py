"""`psi0 bundle pull`: fetch a bundle, check it, and let it appear at once; an interrupted pull goes on where it was.

Until a bundle is whole everything lies in one hidden folder beside the target: `bundle/` with files that are whole,
`parts/` with what is being fetched, under the SHA-256 it must have.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from psi0 import storage
from psi0.connection import connect
from psi0.deploy.listing import Listing, read_listing
from psi0.deploy.manifest import MANIFEST, SIGNATURE, SUMS, Manifest, read_manifest
from psi0.deploy.publish import CHANNEL, Pointer, published
from psi0.deploy.verify import verify_folder
from psi0.errors import Psi0Error
from psi0.files import folder_files, fsync_path, sha256_file, write_bytes
from psi0.params import check_task
from psi0.settings import settings

_PATIENCE = 3
"""Attempts without a single new byte before a download is given up."""

Say = Callable[[str], None]


def pull(what: str, target: Path | None = None, channel: str = CHANNEL, say: Say = lambda line: None) -> Path:
    """Fetch and verify a bundle; returns its folder. What is there already is verified, not fetched again.

    Args:
        what: `s3://` address of a bundle, or a task, whose `channel` names it.
        target: folder that becomes the bundle; by default the cache, under the bundle's name.
        channel: where a task is named, which of its channels.
        say: hears one line per file.

    Raises:
        Psi0Error: it is no bundle signed by a trusted key, the pointer names something else, bytes differ, the disk is
            full, S3 stops answering, or the target is something else than a bundle. What was fetched is kept for the
            next attempt, and the target is as it was.
    """
    pointer = None if what.startswith("s3://") else published(check_task(what), channel)
    address = pointer.address if pointer else what
    cached = _cached(storage.split_address(address)[1].rsplit("/", 1)[-1])
    if target is None and _is_whole(cached, cached.name):
        _check_pointer(pointer, cached.name, read_manifest(cached), str(cached))
        say(f"{cached.name} is in the cache")
        return cached
    listing = read_listing(address)
    _check_pointer(pointer, listing.name, listing.manifest, address)
    here = target.resolve() if target else _cached(listing.name)
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(here.with_name(f".{here.name}.lock"), timeout=0):
            _pull(listing, here, say)
    except Timeout:
        raise Psi0Error(f"{here}: another pull into it is at work; wait for it") from None
    except OSError as error:
        raise Psi0Error(
            f"{here}: cannot write ({error.strerror or error}); free some space or fix its permissions, then pull "
            "again: what was fetched is kept"
        ) from None
    return here


def _pull(listing: Listing, target: Path, say: Say) -> None:
    if _is_whole(target, listing.name):
        say(f"{target} is that bundle already")
        return
    if not _may_be_replaced(target):
        raise Psi0Error(f"{target} exists and is no bundle; name another folder with --out, nothing was touched")
    work = target.with_name(f".{target.name}.pull")
    bundle, parts = work / "bundle", work / "parts"
    for folder in (bundle, parts):
        folder.mkdir(parents=True, exist_ok=True)
    _clean(bundle, parts, listing)
    wanted = [name for name in sorted(listing.sums) if not _take(name, listing.sums[name], bundle, target)]
    for name in sorted(listing.sums.keys() - set(wanted)):
        say(f"kept {name}")
    _check_space(listing, wanted, parts, target)
    s3 = storage.client(connect())
    for name in wanted:
        _fetch(s3, listing, name, parts / listing.sums[name])
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (parts / listing.sums[name]).replace(bundle / name)
        say(f"fetched {name} ({listing.sizes[name] / 1e6:.1f} MB)")
    for name in (SIGNATURE, SUMS):
        write_bytes(bundle / name, listing.content[name])
    verify_folder(bundle)
    _appear(bundle, target, work)


def _may_be_replaced(target: Path) -> bool:
    if not target.is_dir():
        return not target.exists()
    return all((target / name).is_file() for name in (MANIFEST, SUMS)) or not any(target.iterdir())


def _check_pointer(pointer: Pointer | None, name: str, found: Manifest, where: str) -> None:
    """The pointer is not signed, so the bundle it names must say the same of itself."""
    if pointer is None:
        return
    if (found.task, name, found.source.version) != (pointer.task, pointer.bundle, pointer.version):
        raise Psi0Error(
            f"the pointer names version {pointer.version} of {pointer.task}, but {where} holds version "
            f"{found.source.version} of {found.task}; do not use it, publish the version again"
        )


def _cached(name: str) -> Path:
    return settings().home.absolute() / "cache" / "bundles" / name


def _is_whole(folder: Path, name: str) -> bool:
    if not (folder / SUMS).exists() or sha256_file(folder / SUMS) != name:
        return False
    try:
        return verify_folder(folder).name == name
    except Psi0Error:
        return False


def _clean(bundle: Path, parts: Path, listing: Listing) -> None:
    """Remove what an earlier pull left of another bundle, and links, through which one could write elsewhere."""
    for folder in (bundle, parts):
        if any(path.is_symlink() for path in [folder, *folder.rglob("*")]):
            shutil.rmtree(folder)
            folder.mkdir()
    for file in folder_files(bundle):
        if file.as_posix() not in listing.sums:
            (bundle / file).unlink()
    for path in sorted(bundle.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for part in parts.iterdir():
        if part.name not in listing.sums.values():
            part.unlink()


def _take(name: str, sha256: str, bundle: Path, target: Path) -> bool:
    """Whether a file is whole already, here or in the bundle that this one replaces."""
    if (bundle / name).is_file() and sha256_file(bundle / name) == sha256:
        return True
    (bundle / name).unlink(missing_ok=True)
    before = target / name
    if before.is_file() and not before.is_symlink() and sha256_file(before) == sha256:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(before, bundle / name)
        return True
    return False


def _check_space(listing: Listing, wanted: list[str], parts: Path, target: Path) -> None:
    here = sum(part.stat().st_size for part in parts.iterdir())
    needed, free = sum(listing.sizes[name] for name in wanted) - here, shutil.disk_usage(parts).free
    if needed > free:
        raise Psi0Error(
            f"{target}: {needed / 1e6:.1f} MB are still to be fetched and {free / 1e6:.1f} MB are free; free some "
            "space, then pull again: what was fetched is kept"
        )


def _fetch(s3: Any, listing: Listing, name: str, part: Path) -> None:
    """Fetch one file into `part`, going on behind what is there. Raises `Psi0Error` when its bytes are wrong."""
    resumed = part.exists()
    _download(s3, listing, name, part)
    if sha256_file(part) != listing.sums[name] and resumed:
        part.unlink()
        _download(s3, listing, name, part)
    if sha256_file(part) != listing.sums[name]:
        part.unlink()
        raise Psi0Error(
            f"{listing.address} is not the bundle that was published: {name} was changed. Do not use it; publish it "
            "anew"
        )


def _download(s3: Any, listing: Listing, name: str, part: Path) -> None:
    bucket, key = listing.location(name)
    size, failures = listing.sizes[name], 0
    get = storage.healed(s3.get_object)
    try:
        with part.open("ab") as file, storage.explained(connect(), bucket):
            while (have := file.tell()) < size:
                try:
                    answer = get(Bucket=bucket, Key=key, **({"Range": f"bytes={have}-"} if have else {}))
                    for chunk in answer["Body"].iter_chunks(1 << 20):
                        file.write(chunk)
                except storage.CUT:
                    failures = 0 if file.tell() > have else failures + 1
                    if failures >= _PATIENCE:
                        raise
                    time.sleep(0.2 * 2**failures)
    except FileNotFoundError as error:
        raise Psi0Error(f"{listing.address}: {name} vanished while it was fetched ({error}); pull again") from None


def _appear(bundle: Path, target: Path, work: Path) -> None:
    for file in folder_files(bundle):
        fsync_path(bundle / file)
    shutil.rmtree(work / "before", ignore_errors=True)
    if target.exists():
        target.rename(work / "before")
    bundle.rename(target)
    fsync_path(target.parent)
    shutil.rmtree(work, ignore_errors=True)
