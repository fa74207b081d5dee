"""Pulling a bundle: it goes on where it was interrupted, and appears whole or not at all."""

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from psi0 import storage
from psi0.connection import connect, read_secrets
from psi0.deploy.bundle import build_bundle
from psi0.deploy.manifest import SUMS, write_sums
from psi0.deploy.publish import upload
from psi0.deploy.pull import pull
from psi0.deploy.signature import sign
from psi0.deploy.verify import verify_folder
from psi0.errors import Psi0Error
from psi0.files import folder_files
from psi0.settings import Settings
from tests.code.faulty_s3 import Door, faulty_s3

GRAPH = "graphs/s1_step.onnx"
PULL = "import sys; from pathlib import Path; from psi0.deploy.pull import pull; pull(sys.argv[1], Path(sys.argv[2]))"


@pytest.fixture
def make(evidence: Path, tmp_path: Path, s3: Settings) -> Callable[[str], str]:
    """Build and upload the bundle of a version; returns its address."""

    def build(version: str) -> str:
        source = {"model": "psi0-pick_can", "version": version, "git_commit": "f" * 40, "git_dirty": "false"}
        build_bundle(evidence, "pick_can", source, tmp_path / f"bundle-{version}")
        return upload(tmp_path / f"bundle-{version}")

    return build


@pytest.fixture
def address(make: Callable[[str], str]) -> str:
    """Address of an uploaded bundle."""
    return make("1")


@pytest.fixture
def door(address: str, use_settings: Callable[..., None]) -> Iterator[Door]:
    """The S3 server behind a door that can be told to fail."""
    keys = read_secrets()
    assert keys is not None
    with faulty_s3(connect().s3_endpoint) as opened:
        use_settings(s3_endpoint=opened.address, s3_access_key=keys.s3_access_key, s3_secret_key=keys.s3_secret_key)
        yield opened


def test_an_answer_that_is_cut_is_gone_on_with(address: str, door: Door, tmp_path: Path) -> None:
    door.fail("GET", GRAPH, "cut", times=2)
    verify_folder(pull(address, tmp_path / "robot"))
    asked = [byte_range for method, path, byte_range in door.seen if method == "GET" and path.endswith(GRAPH)]
    assert asked == [None, "bytes=5000-", "bytes=7500-"]
    assert sorted(path.name for path in tmp_path.glob(".robot*")) == [".robot.lock"], "nothing else is left"


def test_what_was_fetched_is_not_fetched_again(address: str, door: Door, tmp_path: Path) -> None:
    door.fail("GET", "/limits.json", "unavailable")
    with pytest.raises(Psi0Error, match="503"):
        pull(address, tmp_path / "robot")
    assert not (tmp_path / "robot").exists()
    door.rule = lambda method, path: None
    said: list[str] = []
    pull(address, tmp_path / "robot", say=said.append)
    assert f"kept {GRAPH}" in said and any(line.startswith("fetched limits.json") for line in said)
    assert door.count("GET", GRAPH) == 1
    verify_folder(tmp_path / "robot")
    said.clear()
    pull(address, tmp_path / "robot", say=said.append)
    assert said == [f"{tmp_path / 'robot'} is that bundle already"]


def test_a_pull_that_is_killed_shows_nothing_and_goes_on(address: str, door: Door, tmp_path: Path) -> None:
    door.kill_at("GET", "/limits.json", PULL, address, str(tmp_path / "robot"))
    assert not (tmp_path / "robot").exists()
    verify_folder(pull(address, tmp_path / "robot"))
    assert door.count("GET", GRAPH) == 1


def test_leftovers_that_are_wrong_are_fetched_anew(address: str, door: Door, tmp_path: Path) -> None:
    door.fail("GET", "/limits.json", "unavailable")
    with pytest.raises(Psi0Error):
        pull(address, tmp_path / "robot")
    door.rule = lambda method, path: None
    work = tmp_path / ".robot.pull"
    (work / "bundle" / GRAPH).write_bytes(b"X" * 10000)
    (work / "bundle/foreign").write_bytes(b"X")
    (work / "bundle/evidence/gate.json").unlink()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (work / "bundle/evidence/gate.json").symlink_to(outside)
    verify_folder(pull(address, tmp_path / "robot"))
    assert outside.read_text() == "mine", "nothing is written through a link"


def test_a_part_of_other_bytes_is_dropped(address: str, door: Door, tmp_path: Path) -> None:
    door.fail("GET", GRAPH, "cut")
    door.rule = lambda method, path, cut=door.rule: "unavailable" if door.count("GET", GRAPH) > 1 else cut(method, path)
    with pytest.raises(Psi0Error):
        pull(address, tmp_path / "robot")
    door.rule = lambda method, path: None
    (part,) = (tmp_path / ".robot.pull/parts").iterdir()
    assert part.stat().st_size == 5000
    part.write_bytes(b"X" * 5000)
    verify_folder(pull(address, tmp_path / "robot"))


def test_another_version_replaces_the_bundle_and_fetches_only_what_is_new(
    make: Callable[[str], str], address: str, door: Door, tmp_path: Path
) -> None:
    pull(address, tmp_path / "robot")
    following = make("2")
    door.seen.clear()
    name = verify_folder(pull(following, tmp_path / "robot")).name
    assert following.endswith(name)
    assert door.count("GET", GRAPH) == 0
    assert not list(tmp_path.glob(".robot.pull"))


def test_what_is_no_bundle_is_not_replaced(address: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years")
    (tmp_path / "file").write_text("mine")
    for place in ("home", "file"):
        with pytest.raises(Psi0Error, match="is no bundle; name another folder"):
            pull(address, tmp_path / place)
    assert (tmp_path / "home/thesis.tex").read_text() == "years" and (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    verify_folder(pull(address, tmp_path / "empty"))


def test_two_pulls_into_one_folder_do_not_meet(address: str, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".robot.lock"), pytest.raises(Psi0Error, match="another pull"):
        pull(address, tmp_path / "robot")


def test_extra_files_are_refused_before_anything_is_fetched(address: str, door: Door, tmp_path: Path) -> None:
    connection, prefix = connect(), storage.split_address(address)[1]
    client = storage.client(connection)
    keys = [f"{prefix}/graphs/extra.onnx", f"{prefix}/graphs/..%2f..%2fescape"]
    for key in keys:
        client.put_object(Bucket=connection.bucket, Key=key, Body=b"extra")
        with pytest.raises(Psi0Error, match="does not belong to it"):
            pull(address, tmp_path / "robot")
        client.delete_object(Bucket=connection.bucket, Key=key)
    assert door.count("GET", GRAPH) == 0 and not list(tmp_path.glob("*robot*"))


@pytest.mark.parametrize("name", ["../escape", "/tmp/escape", "graphs/../../escape"])
def test_even_a_trusted_signer_cannot_write_elsewhere(name: str, address: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle-1"
    write_sums(bundle)
    with (bundle / SUMS).open("a") as sums:
        sums.write(f"{'0' * 64}  {name}\n")
    sign(bundle)
    connection, prefix = connect(), "bundles/pick_can/escape"
    client = storage.client(connection)
    for file in folder_files(bundle):
        client.upload_file(str(bundle / file), connection.bucket, f"{prefix}/{file.as_posix()}")
    with pytest.raises(Psi0Error, match="leads out of the bundle"):
        pull(f"s3://{connection.bucket}/{prefix}", tmp_path / "robot")
    assert not list(tmp_path.glob("*robot*"))


def test_a_full_disk_is_told_before_and_the_pull_goes_on_after(address: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    small = f"mount -t tmpfs -o size=16k none {disk} && exec {sys.executable} -c '{PULL}' {address} {disk}/robot"
    answer = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", small], capture_output=True, text=True
    )
    if "unshare" in answer.stderr or "mount:" in answer.stderr:
        pytest.skip(f"this machine lets nobody mount a small disk: {answer.stderr}")
    assert "MB are free; free some space, then pull again" in answer.stderr


def test_a_disk_that_fills_meanwhile_leaves_nothing_half_done(address: str, tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    command = [sys.executable, "-c", PULL, address, str(tmp_path / "robot")]
    answer = subprocess.run(command, preexec_fn=small_files, capture_output=True, text=True)
    assert "cannot write" in answer.stderr and "free some space" in answer.stderr
    assert not (tmp_path / "robot").exists()
    (part,) = (tmp_path / ".robot.pull/parts").iterdir()
    assert part.stat().st_size == 6000, "what was fetched is kept"
    verify_folder(pull(address, tmp_path / "robot"))


def test_what_is_in_the_cache_needs_no_network(address: str, tmp_path: Path, use_settings: Callable[..., None]) -> None:
    folder = pull(address)
    use_settings(s3_endpoint="http://127.0.0.1:1", s3_access_key="a", s3_secret_key="b")
    assert pull(address) == folder
    (folder / "limits.json").write_text("{}")
    with pytest.raises(Psi0Error, match="does not answer"):
        pull(address)
    shutil.rmtree(folder)
