"""The local services: addresses, keys, ports, and the S3 server they really start."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infra.services import leftovers, ready, stack
from infra.services.clients import write_client_configuration
from infra.services.definitions import services
from infra.services.keys import ensure_secrets, write_private
from infra.services.supervision import Supervisor
from psi0 import storage
from psi0.connection import connect, read_secrets, secrets_file, services_folder
from psi0.errors import Psi0Error
from psi0.files import sha256_file
from psi0.processes import end
from psi0.settings import Settings, settings
from tests.ports import free_ports


def test_unset_addresses_mean_the_local_services(tmp_path: Path) -> None:
    config = Settings(home=tmp_path, mlflow_port=5055, s3_port=8355, prefect_port=4255, ray_port=6355)
    ensure_secrets(config)
    environment = connect(config).environment()
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5055"
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4255/api"
    assert environment["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:8355"
    assert environment["PSI0_RAY_ADDRESS"] == "127.0.0.1:6355"
    assert environment["RAY_AUTH_MODE"] == "token"
    assert Path(environment["RAY_AUTH_TOKEN_PATH"]).stat().st_mode & 0o777 == 0o600


def test_addresses_elsewhere_are_a_matter_of_settings(tmp_path: Path) -> None:
    config = Settings(
        home=tmp_path,
        s3_endpoint="https://s3.example.org",
        s3_access_key="their-key",
        s3_secret_key="their-secret",
        mlflow_uri="https://mlflow.example.org",
        prefect_api="https://prefect.example.org/api",
        ray_address="ray.example.org:6379",
    )
    secrets = ensure_secrets(config)
    environment = connect(config).environment()
    assert environment["AWS_ACCESS_KEY_ID"] == "their-key"
    assert environment["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"
    assert environment["PREFECT_API_URL"] == "https://prefect.example.org/api"
    assert environment["PSI0_RAY_ADDRESS"] == "ray.example.org:6379"
    assert "RAY_AUTH_TOKEN_PATH" not in environment, "the local head's token is not for other clusters"
    assert [service.name for service in services(config, secrets)] == ["worker", "watch"]


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    config = Settings(home=tmp_path)
    first, second = ensure_secrets(config), ensure_secrets(config)
    assert first == second
    assert secrets_file(config).stat().st_mode & 0o777 == 0o600
    assert services_folder(config).stat().st_mode & 0o777 == 0o700
    supervisor = Supervisor(services_folder(config))
    supervisor.configure(services(config, first))
    for file in services_folder(config).rglob("*"):
        if file.is_file() and first.s3_secret_key in file.read_text():
            assert file.stat().st_mode & 0o777 == 0o600, f"{file} holds a secret"


def test_keys_from_before_there_was_a_webhook_are_completed(tmp_path: Path) -> None:
    config = Settings(home=tmp_path)
    first = ensure_secrets(config)
    older = first.model_dump(exclude={"webhook_secret"})
    write_private(secrets_file(config), json.dumps(older))
    completed = ensure_secrets(config)
    assert completed.model_dump(exclude={"webhook_secret"}) == older
    assert len(completed.webhook_secret) == 64


def test_broken_keys_are_named(tmp_path: Path) -> None:
    config = Settings(home=tmp_path)
    write_private(secrets_file(config), '{"schema_version": 1}')
    with pytest.raises(Psi0Error, match=r"secrets\.json"):
        read_secrets(config)


def test_a_busy_port_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        config = Settings(home=tmp_path / "home", mlflow_port=foreign.getsockname()[1])
        with pytest.raises(Psi0Error, match="PSI0_MLFLOW_PORT") as error:
            stack.up(lambda line: None, config, only={"mlflow"})
        assert str(os.getpid()) in str(error.value), "the message says who listens"
    assert not Supervisor(services_folder(config)).running()


def test_two_services_on_one_port_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Settings(home=tmp_path / "home", ray_port=7000, watch_port=7001)
    with pytest.raises(Psi0Error, match=r"watch and ray .* 7001.*PSI0_RAY_PORT or PSI0_WATCH_PORT"):
        stack.up(lambda line: None, config, only={"watch"})


def test_what_answers_in_another_language_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=lambda: server.accept()[0].sendall(b"\x00\x00\x12\x04"), daemon=True)
        answering.start()
        assert not ready.http(f"http://127.0.0.1:{server.getsockname()[1]}/health")
        answering.join(timeout=5)


def test_only_marked_processes_are_ended() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = subprocess.Popen(sleep, env={**os.environ, leftovers.STACK: "test-stack", leftovers.SERVICE: "mlflow"})
    other = subprocess.Popen(sleep, env={**os.environ, leftovers.STACK: "another-stack"})
    try:
        assert [process.pid for process in leftovers.of_stack("test-stack", "mlflow")] == [ours.pid]
        assert not leftovers.of_stack("test-stack", "ray")
        assert leftovers.belongs(psutil.Process(ours.pid), "test-stack")
        assert end(leftovers.of_stack("test-stack"), patience_seconds=5) == 1
        assert not psutil.pid_exists(ours.pid)
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_an_unknown_log_names_the_known_ones(s3: Settings) -> None:
    with pytest.raises(Psi0Error, match="s3"):
        stack.log_file("nonsense")


def test_status_tells_what_runs_and_up_again_changes_nothing(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(s3.home.parent)
    state = {line.name: line.state for line in stack.status()}
    assert state["s3"] == "ready"
    assert state["ray"] == "down", "no test of these starts it"
    before = Supervisor(services_folder()).processes()["s3"].pid
    said: list[str] = []
    stack.up(said.append, only={"s3"})
    assert said == ["all 1 services are up"]
    assert Supervisor(services_folder()).processes()["s3"].pid == before


def test_up_of_one_service_leaves_the_others_as_they_run(
    mlflow_server: Settings, s3: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(s3.home.parent)
    before = Supervisor(services_folder()).processes()["mlflow"]
    assert before.up
    assert settings().mlflow_port != mlflow_server.mlflow_port, "by these settings MLflow would have to move"
    stack.up(lambda line: None, only={"s3"})
    assert Supervisor(services_folder()).processes()["mlflow"].pid == before.pid


def test_the_s3_server_listens_on_loopback_only(s3: Settings) -> None:
    ports = {s3.s3_port, *range(s3.s3_internal_port, s3.s3_internal_port + 3)}
    ports |= {port + 10000 for port in ports}
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr]
    ours = [one.laddr for one in listening if one.laddr.port in ports]
    assert len(ours) >= 4
    assert {address.ip for address in ours} == {"127.0.0.1"}


def test_small_and_large_files_make_the_round_trip(s3: Settings, tmp_path: Path) -> None:
    connection = connect()
    client = storage.client(connection)
    for name, size in (("small", 10), ("large", 21 << 20)):
        file = tmp_path / name
        file.write_bytes(os.urandom(size))
        digest = sha256_file(file)
        assert storage.upload(client, file, connection.bucket, f"test/{name}", digest)
        assert not storage.upload(client, file, connection.bucket, f"test/{name}", digest), "it lies there already"
        assert storage.read_sha256(client, connection.bucket, f"test/{name}") == digest
    assert storage.keys(client, connection.bucket, "test/") == {"test/small": 10, "test/large": 21 << 20}


def test_a_wrong_key_and_a_missing_bucket_are_explained(s3: Settings, use_settings: Callable[..., None]) -> None:
    use_settings(s3_secret_key="wrong")
    with pytest.raises(Psi0Error, match="PSI0_S3_SECRET_KEY"):
        storage.ensure_bucket(connect())
    use_settings(s3_secret_key=read_secrets().s3_secret_key, bucket="no-such-bucket")  # type: ignore[union-attr]
    connection = connect()
    with pytest.raises(Psi0Error, match="no-such-bucket"), storage.explained(connection):
        storage.client(connection).list_objects_v2(Bucket=connection.bucket)


def test_s3_that_is_down_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = Settings(home=tmp_path, s3_endpoint=f"http://127.0.0.1:{port}", s3_access_key="a", s3_secret_key="b")
    with pytest.raises(Psi0Error, match="psi0 up"):
        storage.ensure_bucket(connect(config))


def test_clients_are_told_without_losing_what_people_wrote(s3: Settings, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config.local").write_text("[cache]\ndir = elsewhere\n")
    write_client_configuration(s3)
    text = (tmp_path / ".dvc/config.local").read_text()
    assert "dir = elsewhere" in text
    assert f"endpointurl = http://127.0.0.1:{s3.s3_port}" in text
    assert (tmp_path / ".dvc/config.local").stat().st_mode & 0o777 == 0o600
    assert f'url = "{connect().prefect_api}"' in (tmp_path / "prefect.toml").read_text()


@pytest.mark.long
def test_state_survives_down_and_up_and_down_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = free_ports(5)
    config = Settings(home=tmp_path / "home", s3_port=first, s3_internal_port=first + 1)
    connection = None
    for round_trip in range(2):
        stack.up(lambda line: None, config, only={"s3"})
        try:
            connection = connect(config)
            client = storage.client(connection)
            if round_trip == 0:
                client.put_object(Bucket=connection.bucket, Key="kept", Body=b"content")
            assert client.get_object(Bucket=connection.bucket, Key="kept")["Body"].read() == b"content"
        finally:
            stack.down(lambda line: None, config)
        assert not leftovers.of_stack(str(services_folder(config)))
