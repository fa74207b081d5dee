"""The receiver of MLflow's webhooks: a signed, fresh, first and small delivery wakes the service, nothing else does."""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from infra.services.webhook import MAX_AGE_SECONDS, MAX_BYTES, PATH, RefusedError, Verifier, receiver

SECRET = "a secret that only MLflow and the service know"
BODY = b'{"entity": "model_version_alias", "action": "created", "data": {"alias": "champion"}}'


def signed(
    delivery: str = "d-1", stamp: float | None = None, body: bytes = BODY, secret: str = SECRET
) -> dict[str, str]:
    """Headers as MLflow makes them."""
    moment = str(int(time.time() if stamp is None else stamp))
    text = f"{delivery}.{moment}.".encode() + body
    signature = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": moment,
        "X-MLflow-Signature": f"v1,{signature}",
    }


class Service:
    def __init__(self) -> None:
        self.woken = 0
        self.well = True

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(receiver(Verifier(SECRET), service.wake, lambda: service.well)) as client:
        yield client


def test_a_signed_delivery_wakes_the_service(client: TestClient, service: Service) -> None:
    assert client.post(PATH, content=BODY, headers=signed()).status_code == 200
    assert service.woken == 1


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, BODY, 400),
        (signed(secret="a guess"), BODY, 401),
        (signed(), BODY.replace(b"champion", b"previous"), 401),
        ({**signed(), "X-MLflow-Signature": ""}, BODY, 401),
        ({**signed(), "X-MLflow-Signature": "v1,\xff"}, BODY, 401),
        ({**signed(), "X-MLflow-Delivery-Id": "d-2"}, BODY, 401),
        ({**signed(), "X-MLflow-Timestamp": "1795500000"}, BODY, 401),
        ({**signed(), "X-MLflow-Timestamp": "now"}, BODY, 400),
        (signed(stamp=time.time() - MAX_AGE_SECONDS - 10), BODY, 401),
        (signed(stamp=time.time() + 100 * MAX_AGE_SECONDS), BODY, 401),
        (signed(body=b"x" * (MAX_BYTES + 1)), b"x" * (MAX_BYTES + 1), 413),
    ],
)
def test_everything_else_is_refused(
    client: TestClient, service: Service, headers: dict[str, str], body: bytes, status: int
) -> None:
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    assert client.post(PATH, content=body, headers=encoded).status_code == status  # type: ignore[arg-type]
    assert service.woken == 0


def test_an_oversized_delivery_is_given_up_without_an_announced_length(client: TestClient, service: Service) -> None:
    sent = 0

    def drip() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b"x" * 8192

    assert client.post(PATH, content=drip(), headers=signed()).status_code == 413
    assert service.woken == 0


def test_a_replayed_delivery_is_refused(client: TestClient, service: Service) -> None:
    headers = signed()
    assert client.post(PATH, content=BODY, headers=headers).status_code == 200
    assert client.post(PATH, content=BODY, headers=headers).status_code == 409
    assert service.woken == 1


def test_a_clock_that_goes_back_makes_no_old_delivery_new() -> None:
    now = time.time()
    clock = [now]
    verifier = Verifier(SECRET, now=lambda: clock[0])
    headers = {name.lower(): value for name, value in signed(stamp=now).items()}
    verifier.check(headers, BODY)
    clock[0] = now + 2 * MAX_AGE_SECONDS
    with pytest.raises(RefusedError, match="too old"):
        verifier.check(headers, BODY)
    clock[0] = now - 10
    with pytest.raises(RefusedError, match="came before"):
        verifier.check(headers, BODY)


def test_only_its_two_addresses_answer(client: TestClient, service: Service) -> None:
    assert client.get(PATH).status_code == 405
    assert client.post("/", content=BODY, headers=signed()).status_code == 404
    assert client.get("/health").status_code == 200
    service.well = False
    assert client.get("/health").status_code == 503
