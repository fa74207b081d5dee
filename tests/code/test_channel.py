"""Channels: a pointer that moves last, by a conditional write, and keeps its history; against the real S3 server."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from psi0 import storage
from psi0.cli import app
from psi0.connection import connect, read_secrets
from psi0.deploy.bundle import build_bundle
from psi0.deploy.publish import (
    Pointer,
    PointerMovedError,
    announce,
    point,
    pointer_history,
    publish,
    read_pointer,
    upload,
)
from psi0.deploy.pull import pull
from psi0.errors import Psi0Error
from psi0.settings import Settings
from tests.code.faulty_s3 import Door, faulty_s3

MODEL, TASK = "psi0-pick_can", "pick_can"
PUBLISH = "import sys; from pathlib import Path; from psi0.deploy.publish import publish; publish(Path(sys.argv[1]))"


@pytest.fixture
def make(evidence: Path, tmp_path: Path, s3: Settings) -> Callable[[str], Path]:
    """Build the bundle of a version."""

    def build(version: str) -> Path:
        source = {"model": MODEL, "version": version, "git_commit": "f" * 40, "git_dirty": "false"}
        build_bundle(evidence, TASK, source, tmp_path / f"bundle-{version}")
        return tmp_path / f"bundle-{version}"

    return build


@pytest.fixture
def door(s3: Settings, use_settings: Callable[..., None]) -> Iterator[Door]:
    """The S3 server behind a door that can be told to fail."""
    keys = read_secrets()
    assert keys is not None
    with faulty_s3(connect().s3_endpoint) as opened:
        use_settings(s3_endpoint=opened.address, s3_access_key=keys.s3_access_key, s3_secret_key=keys.s3_secret_key)
        yield opened


def _moves(channel: str) -> list[str]:
    return [state.pointer.version for state in pointer_history(TASK, channel) if state.pointer]


def test_the_bucket_keeps_versions_and_a_channel_its_history(make: Callable[[str], Path]) -> None:
    connection = connect()
    assert storage.client(connection).get_bucket_versioning(Bucket=connection.bucket)["Status"] == "Enabled"
    first, second = upload(make("1")), upload(make("2"))
    assert read_pointer(TASK, "kept") is None and pointer_history(TASK, "kept") == []
    for address, version in ((first, "1"), (second, "2"), (first, "1")):
        assert point(address, TASK, MODEL, version, "kept").address == address
        again = point(address, TASK, MODEL, version, "kept")
        assert again == read_pointer(TASK, "kept"), "pointing there again writes nothing"
    assert _moves("kept") == ["1", "2", "1"]
    # S3 dates versions to the second.
    time.sleep(1.1)
    storage.client(connection).delete_object(Bucket=connection.bucket, Key=f"channels/{TASK}/kept.json")
    time.sleep(1.1)
    assert pointer_history(TASK, "kept")[0].deleted
    assert announce(second, TASK, MODEL, "2").version == "2", "the default channel is another one"
    point(second, TASK, MODEL, "2", "kept")
    shown = CliRunner().invoke(app, ["bundle", "history", TASK, "--channel", "kept"]).output.splitlines()
    assert [line.split()[1:3] for line in shown] == [
        ["version", "2"],
        ["deleted"],
        ["version", "1"],
        ["version", "2"],
        ["version", "1"],
    ]
    assert shown[0].endswith("(now)") and second in shown[0]


def test_a_versioned_bucket_that_was_suspended_stays_so(s3: Settings, use_settings: Callable[..., None]) -> None:
    use_settings(bucket="psi0-suspended")
    connection = connect()
    storage.ensure_bucket(connection)
    client = storage.client(connection)
    status = {"Status": "Suspended"}
    client.put_bucket_versioning(Bucket=connection.bucket, VersioningConfiguration=status)
    storage.ensure_bucket(connection)
    assert client.get_bucket_versioning(Bucket=connection.bucket)["Status"] == "Suspended"
    client.delete_bucket(Bucket=connection.bucket)


def test_only_the_bundle_that_is_meant_is_pointed_to(make: Callable[[str], Path]) -> None:
    address = upload(make("1"))
    for wrong in ((TASK, MODEL, "2"), (TASK, "psi0-push_cart", "1"), ("push_cart", MODEL, "1")):
        with pytest.raises(Psi0Error, match="nothing was moved"):
            point(address, *wrong, channel="meant")
    with pytest.raises(Psi0Error, match="holds no bundle"):
        point(address[:-64] + "0" * 64, TASK, MODEL, "1", "meant")
    for task, channel in (("../x", "meant"), (TASK, "a/b"), (TASK, "")):
        with pytest.raises(Psi0Error, match="is not a name"):
            read_pointer(task, channel)
    assert read_pointer(TASK, "meant") is None


def test_the_command_moves_any_channel_but_stable(make: Callable[[str], Path]) -> None:
    address = upload(make("1"))
    moved = CliRunner().invoke(app, ["bundle", "point", address, "--channel", "canary"])
    assert moved.exit_code == 0 and "version 1" in moved.output
    assert read_pointer(TASK, "canary").address == address  # type: ignore[union-attr]
    refused = CliRunner().invoke(app, ["bundle", "point", address, "--channel", "stable"])
    assert isinstance(refused.exception, Psi0Error) and "psi0 promote" in str(refused.exception)


@pytest.mark.parametrize("before", [None, "0"])
def test_who_moves_second_is_told_and_the_first_stands(
    before: str | None, make: Callable[[str], Path], door: Door
) -> None:
    channel = f"second-{before}".lower()
    if before:
        point(upload(make(before)), TASK, MODEL, before, channel)
    ours, theirs = upload(make("1")), upload(make("2"))
    door.fail("PUT", f"/{channel}.json", lambda: point(theirs, TASK, MODEL, "2", channel), times=1)
    with pytest.raises(PointerMovedError, match=r"somebody else in the meantime \(version 2\)"):
        point(ours, TASK, MODEL, "1", channel)
    assert _moves(channel) == ["2", *([before] if before else [])]


def test_of_many_at_once_one_wins(make: Callable[[str], Path]) -> None:
    addresses = {version: upload(make(version)) for version in ("1", "2", "3", "4")}
    start = threading.Barrier(len(addresses))

    def move(version: str) -> Pointer | None:
        start.wait()
        try:
            return point(addresses[version], TASK, MODEL, version, "crowd")
        except PointerMovedError:
            return None

    with ThreadPoolExecutor(len(addresses)) as team:
        moved = [pointer for pointer in team.map(move, addresses) if pointer]
    last = read_pointer(TASK, "crowd")
    assert last in moved and last.version == _moves("crowd")[0], "whoever came last, in whatever order they were asked"
    # Who moves it and is overtaken before it reads back is told no: theirs does not stand.
    assert {pointer.version for pointer in moved} <= set(_moves("crowd")), "everybody who was told yes did move it"


@pytest.mark.parametrize("fault", ["lost", "unavailable"])
def test_a_lost_write_of_the_pointer_is_noticed(fault: str, make: Callable[[str], Path], door: Door) -> None:
    channel = f"lost-{fault}"
    first = point(upload(make("1")), TASK, MODEL, "1", channel)
    second = upload(make("2"))
    door.fail("PUT", f"/{channel}.json", fault)
    with pytest.raises(Psi0Error, match=r"S3 lost the write.*where it was \(version 1\).*publish the version again"):
        point(second, TASK, MODEL, "2", channel)
    assert read_pointer(TASK, channel) == first
    door.rule = lambda method, path: None
    assert point(second, TASK, MODEL, "2", channel).version == "2", "the remedy works"


def test_a_write_whose_answer_is_lost_counts(make: Callable[[str], Path], door: Door) -> None:
    address = upload(make("1"))
    door.fail("PUT", "/silent.json", "unanswered")
    assert point(address, TASK, MODEL, "1", "silent") == read_pointer(TASK, "silent")
    assert _moves("silent") == ["1"]


def test_s3_that_stops_answering_while_the_pointer_moves_is_reported(make: Callable[[str], Path], door: Door) -> None:
    address = upload(make("1"))
    written = threading.Event()

    def rule(method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith("/gone.json"):
            written.set()
            return "unanswered"
        return "unavailable" if written.is_set() else None

    door.rule = rule
    with pytest.raises(Psi0Error, match=r"whether it did is unknown.*publish the version again"):
        point(address, TASK, MODEL, "1", "gone")


def test_a_pointer_that_was_tampered_with_is_refused_and_repaired(make: Callable[[str], Path], tmp_path: Path) -> None:
    connection, client = connect(), storage.client(connect())
    first, second = publish(make("1")), upload(make("2"))

    def put(content: bytes) -> None:
        client.put_object(Bucket=connection.bucket, Key=f"channels/{TASK}/stable.json", Body=content)

    for content in (b"nonsense", first.model_copy(update={"task": "push_cart"}).model_dump_json().encode()):
        put(content)
        with pytest.raises(Psi0Error, match="not a pointer of pick_can"):
            read_pointer(TASK)
    lie = first.model_copy(update={"address": second, "bundle": second[-64:]})
    put(json.dumps(lie.model_dump()).encode())
    with pytest.raises(Psi0Error, match=r"names version 1 of pick_can, but .* holds version 2"):
        pull(TASK, tmp_path / "robot")
    assert not (tmp_path / "robot").exists()
    pull(second)
    with pytest.raises(Psi0Error, match="names version 1 of pick_can"):
        pull(TASK)
    assert point(first.address, TASK, MODEL, "1").version == "1"
    assert pull(TASK, tmp_path / "robot").is_dir()


def test_an_upload_that_is_killed_leaves_the_pointer(make: Callable[[str], Path], door: Door) -> None:
    first = publish(make("1"))
    # A bundle that no other test has uploaded: what lies there is not sent again.
    second = make("77")
    door.kill_at("PUT", "/limits.json", PUBLISH, str(second))
    assert read_pointer(TASK) == first
    assert publish(second).version == "77", "doing it again completes it"
