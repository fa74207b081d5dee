"""The service `watch` as `psi0 up` runs it, beside a real MLflow, S3 and Prefect: what it does about a moved alias.

Its webhook is taken away after it was registered, so that what it finds it finds by its poll: the worse case. One test
lets MLflow call a receiver. No worker runs here; what is asked of the flow is read from Prefect.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.promote import promote as promote_flow
from flows.promotion_runs import REFUSED
from flows.watch import introduce
from infra.services import stack
from infra.services.supervision import Supervisor
from infra.services.webhook import PATH, Verifier, receiver
from psi0.connection import connect, services_folder
from psi0.registry.champion import read_state
from psi0.registry.promotion import promote
from psi0.registry.reconcile import BY_HAND, reconcile
from psi0.registry.versions import aliases, find_version
from psi0.settings import Settings, settings
from tests.code.conftest import forget_task
from tests.code.judged_versions import BAD, TASK, played_as, register_version
from tests.ports import free_ports

ANSWER_SECONDS = 10.0
"""How soon an alias that was moved must be answered."""
NAME = f"psi0-{TASK}"


def until(true: Callable[[], object], seconds: float = ANSWER_SECONDS) -> float:
    """Wait until something is true; returns how long it took."""
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds, f"not within {seconds:.0f} s"
        time.sleep(0.1)
    return time.monotonic() - begin


@pytest.fixture(scope="module")
def watched(mlflow_server: Settings) -> Iterator[Settings]:
    """Settings of the stack while Prefect and `watch` run too, and only for the tests of this module."""
    first = free_ports(2)
    config = mlflow_server.model_copy(update={"prefect_port": first, "watch_port": first + 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(config.home.parent)
        for name in ("home", "s3_port", "s3_internal_port", "mlflow_port", "prefect_port", "watch_port"):
            patch.setenv(f"PSI0_{name.upper()}", str(getattr(config, name)))
        settings.cache_clear()
        stack.up(lambda line: None, config, only={"prefect"})
        with temporary_settings({PREFECT_API_URL: connect(config).prefect_api}):
            promote_flow.to_deployment("promote").apply()
        stack.up(lambda line: None, config, only={"watch"})
        mlflow = MlflowClient(connect(config).mlflow_uri)
        (hook,) = mlflow.list_webhooks()
        assert (hook.url, str(hook.status)) == (f"http://{config.host}:{config.watch_port}{PATH}", "ACTIVE")
        mlflow.delete_webhook(hook.webhook_id)
        yield config
        Supervisor(services_folder(config)).stop(["watch", "prefect"])
    settings.cache_clear()


@pytest.fixture(scope="module")
def made() -> list[str]:
    """Versions that this module's tests share once they are made."""
    return []


@pytest.fixture
def champions(watched: Settings, tracking: MlflowClient, made: list[str], tmp_path: Path) -> MlflowClient:
    """A registry whose versions 1 and 2 were champions, and 2 is."""
    if not made:
        forget_task(tracking)
        made += [register_version(tracking, tmp_path).number for _ in range(2)]
        promote(tracking, TASK, "1")
    promote(tracking, TASK, "2", compare=played_as(0))
    return tracking


@pytest.fixture
def prefect(watched: Settings) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(connect(watched).prefect_api) as client:
        yield client


def asked(prefect: SyncPrefectClient, version: str) -> list[dict[str, object]]:
    """Parameters of the flow runs that were asked to promote a version."""
    return [run.parameters for run in prefect.read_flow_runs() if run.parameters["version"] == version]


def events(prefect: SyncPrefectClient, name: str) -> list[str]:
    """Messages of the events of a name, the newest first."""
    question = {"filter": {"event": {"name": [name]}}}
    found = prefect.request("POST", "/events/filter", json=question).json()
    return [event["payload"]["message"] for event in found["events"]]


def test_an_alias_on_a_refused_version_goes_back_with_the_reason(
    champions: MlflowClient, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    refused = register_version(champions, tmp_path, BAD)
    champions.set_registered_model_alias(NAME, "champion", refused.number)
    until(lambda: aliases(champions, TASK)["champion"] == "2")
    until(lambda: find_version(champions, TASK, refused.number).tags.get("promotion") == "refused")
    reason = find_version(champions, TASK, refused.number).tags["promotion_reason"]
    assert "the floor test says no" in reason and "the alias went back to version 2" in reason
    assert read_state(champions, TASK).settled
    until(lambda: events(prefect, REFUSED))
    assert f"{refused.label} may not become champion" in events(prefect, REFUSED)[0]
    assert asked(prefect, refused.number) == []


def test_a_sufficient_version_is_asked_for_exactly_once(champions: MlflowClient, prefect: SyncPrefectClient) -> None:
    champions.set_registered_model_alias(NAME, "champion", "1")
    until(lambda: asked(prefect, "1"))
    time.sleep(8)
    (parameters,) = asked(prefect, "1")
    assert (parameters["task"], parameters["by"], parameters["approved"]) == (TASK, BY_HAND, True)
    assert aliases(champions, TASK)["champion"] == "1", "it stays while it is being published"
    assert read_state(champions, TASK).champion == "2", "and the champion is the old one until then"
    assert reconcile(champions, TASK, "in place of the flow").kind == "promoted"
    assert read_state(champions, TASK).settled


def test_a_version_that_awaits_its_comparison_goes_back_until_the_flow_made_it(
    champions: MlflowClient, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    untried = register_version(champions, tmp_path)
    champions.set_registered_model_alias(NAME, "champion", untried.number)
    until(lambda: asked(prefect, untried.number))
    assert aliases(champions, TASK)["champion"] == "2"
    tags = find_version(champions, TASK, untried.number).tags
    assert tags["promotion"] == "waiting" and "was not compared with champion version 2" in tags["promotion_reason"]


def test_a_deleted_alias_comes_back(champions: MlflowClient) -> None:
    champions.delete_registered_model_alias(NAME, "champion")
    until(lambda: aliases(champions, TASK).get("champion") == "2")


def test_a_forged_delivery_is_refused_by_the_running_service(watched: Settings) -> None:
    headers = {"X-MLflow-Delivery-Id": "d", "X-MLflow-Timestamp": str(int(time.time())), "X-MLflow-Signature": "v1,x"}
    address = f"http://{watched.host}:{watched.watch_port}"
    assert httpx.post(f"{address}{PATH}", content=b"{}", headers=headers).status_code == 401
    assert httpx.get(f"{address}/health").status_code == 200


def test_mlflow_calls_the_receiver_when_an_alias_moves(
    registry: MlflowClient, mlflow_server: Settings, tmp_path: Path
) -> None:
    version, woken, secret = register_version(registry, tmp_path), threading.Event(), os.urandom(32).hex()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(receiver(Verifier(secret), woken.set, lambda: True), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            for _ in range(2):
                introduce(registry, mlflow_server.model_copy(update={"watch_port": port}), secret)
            (hook,) = registry.list_webhooks()

            def heard() -> bool:
                registry.set_registered_model_alias(NAME, "champion", version.number)
                return woken.wait(1)

            # MLflow reads its list of webhooks anew every five seconds.
            until(heard, ANSWER_SECONDS + 5)
            registry.delete_webhook(hook.webhook_id)
        finally:
            server.should_exit = True
            thread.join()
