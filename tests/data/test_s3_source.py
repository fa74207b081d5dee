"""Raw data in a real S3 server: indexed without copying, fetched when needed, refused when it changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import raw_layouts

from psi0 import paths
from psi0.data.dataset import LeRobotDataset
from psi0.data.index import index_raw
from psi0.data.stage import prepare_egodex
from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.params import Params
from psi0.settings import settings
from tests.ports import free_ports

KEYS = ("key-of-a-test", "secret-of-a-test")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a SeaweedFS of this test alone."""
    folder = tmp_path_factory.mktemp("s3")
    master = free_ports(4)
    volume, filer, port = master + 1, master + 2, master + 3
    identity = {
        "name": "test",
        "credentials": [{"accessKey": KEYS[0], "secretKey": KEYS[1]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "keys.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    command = [
        *(str(Path(sys.executable).parent / "weed"), "server", f"-dir={folder / 'data'}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}"),
        *(f"-filer.port={filer}", "-s3", f"-s3.port={port}", f"-s3.config={folder / 'keys.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=0", "-master.volumeSizeLimitMB=64"),
        *("-master.telemetry=false", "-master.electionTimeout=1s", "-filer.disableHttp=true"),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if urllib.request.urlopen(f"{address}/healthz", timeout=1).status == 200:
                    break
            except OSError:
                time.sleep(0.2)
        else:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def point_at(s3: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's settings name the server."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("PSI0_HOME", str(workspace / ".psi0"))
    monkeypatch.setenv("PSI0_S3_ENDPOINT", s3)
    monkeypatch.setenv("PSI0_S3_ACCESS_KEY", KEYS[0])
    monkeypatch.setenv("PSI0_S3_SECRET_KEY", KEYS[1])
    settings.cache_clear()


@pytest.fixture
def bucket(s3: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client, with this process's settings pointing at the server."""
    point_at(s3, workspace, monkeypatch)
    return boto3.client(
        "s3", endpoint_url=s3, region_name="us-east-1", aws_access_key_id=KEYS[0], aws_secret_access_key=KEYS[1]
    )


def test_egodex_in_s3(
    bucket: Any, s3: str, workspace: Path, params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = raw_layouts.egodex(workspace / "downloads", episodes=3, metadata=False)
    with pytest.raises(Psi0Error, match="s3://raw-data/ego: this bucket does not exist"):
        index_raw("s3://raw-data/ego", "auto", 2, paths.RAW_EGODEX)
    bucket.create_bucket(Bucket="raw-data")
    for path in sorted(source.rglob("*.*")):
        bucket.upload_file(str(path), "raw-data", f"ego/{path.relative_to(source)}")
    index_raw("s3://raw-data/ego", "auto", 2, paths.RAW_EGODEX)
    index = read_json(paths.RAW_EGODEX / "index.json")
    names = [file["path"] for file in index["files"]]
    assert index["format"] == "egodex" and names == [
        f"test/pick_can/{n}.{e}" for n in range(2) for e in ("hdf5", "mp4")
    ]
    prepare_egodex(params())
    [fetched] = (workspace / ".psi0/fetched").glob("*/test/pick_can/0.hdf5")
    whole = fetched.read_bytes()
    fetched.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    prepare_egodex(params())
    assert fetched.read_bytes() == whole, "a spoilt file is fetched again, and what is here needs no space"
    monkeypatch.undo()
    point_at(s3, workspace, monkeypatch)
    dataset = LeRobotDataset(paths.PREPARED_EGODEX)
    assert [end - start for start, end in dataset.episodes] == [20, 21]
    assert dataset.column("action")[5].any() and dataset.identity["redistributable"] is False

    bucket.put_object(Bucket="raw-data", Key="ego/test/pick_can/1.mp4", Body=b"something else")
    monkeypatch.setenv("PSI0_HOME", str(workspace / "fresh"))
    settings.cache_clear()
    with pytest.raises(Psi0Error, match=r"ego/test/pick_can/1\.mp4: changed since it was indexed"):
        prepare_egodex(params())
    bucket.delete_object(Bucket="raw-data", Key="ego/test/pick_can/1.mp4")
    with pytest.raises(Psi0Error, match=r"ego/test/pick_can/1\.mp4: is missing"):
        prepare_egodex(params())
    monkeypatch.setenv("PSI0_S3_SECRET_KEY", "wrong")
    settings.cache_clear()
    with pytest.raises(Psi0Error, match=r"refuses the key .*PSI0_S3_SECRET_KEY"):
        index_raw("s3://raw-data/ego", "auto", 2, paths.RAW_EGODEX)


def test_a_connection_that_breaks_in_the_middle_is_tried_again(
    bucket: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import IncompleteReadError

    from psi0.data.bucket import Bucket

    content = bytes(range(256)) * 100
    bucket.create_bucket(Bucket="flaky")
    tag = bucket.put_object(Bucket="flaky", Key="a/b.bin", Body=content)["ETag"].strip('"')
    source = Bucket("s3://flaky/a")
    assert source.list() == {"b.bin": (len(content), tag)}
    get_object, calls = source._client.get_object, []

    def breaks_once(**request: Any) -> Any:
        calls.append(request)
        answer = get_object(**request)
        if len(calls) == 1:
            first = answer["Body"].read(1000)

            def chunks(size: int) -> Iterator[bytes]:
                yield first
                raise IncompleteReadError(actual_bytes=1000, expected_bytes=len(content))

            answer["Body"] = SimpleNamespace(iter_chunks=chunks)
        return answer

    monkeypatch.setattr(source._client, "get_object", breaks_once)
    source.fetch("b.bin", tag, workspace / "got/b.bin")
    assert (workspace / "got/b.bin").read_bytes() == content and len(calls) == 2
    assert [path.name for path in (workspace / "got").iterdir()] == ["b.bin"]
