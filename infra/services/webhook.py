"""The receiver of MLflow's webhooks: a signed, small, fresh, first delivery wakes the service; all else is refused.

What a delivery says is never believed: it only makes the service look at MLflow sooner than its next poll would.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

PATH = "/mlflow"
MAX_BYTES = 64 << 10
"""Largest body that is read; MLflow sends a few hundred bytes."""
MAX_AGE_SECONDS = 300.0
"""How far a delivery's time stamp may lie from this machine's clock, either way."""
_READ_SECONDS = 5.0
_REMEMBERED = 10_000
_DELIVERY = re.compile(r"[0-9A-Za-z._-]{1,80}")


class RefusedError(Exception):
    """A delivery that is not accepted; `status` is the HTTP status of the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Verifier:
    """Checks deliveries, and remembers them so that none is accepted twice.

    Deliveries are remembered by this process's own count, for twice as long as their time stamp could be accepted: a
    clock that is set back makes no old delivery new.
    """

    def __init__(self, secret: str, now: Callable[[], float] = time.time) -> None:
        """`now` is the clock that time stamps are held against [s since 1970]."""
        self._secret, self._now = secret.encode(), now
        self._seen: OrderedDict[str, float] = OrderedDict()

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Accept a delivery. Raises `RefusedError`."""
        delivery = headers.get("x-mlflow-delivery-id", "")
        stamp = headers.get("x-mlflow-timestamp", "")
        signature = headers.get("x-mlflow-signature", "")
        if not _DELIVERY.fullmatch(delivery) or not stamp.isdecimal() or len(stamp) > 15:
            raise RefusedError(400, "a delivery has an id and a time stamp")
        signed = f"{delivery}.{stamp}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(expected.encode(), signature.encode("latin-1", "replace")):
            raise RefusedError(401, "the signature is wrong")
        if abs(self._now() - int(stamp)) > MAX_AGE_SECONDS:
            raise RefusedError(401, "the time stamp is too old, or lies ahead")
        self._forget()
        if delivery in self._seen:
            raise RefusedError(409, "this delivery came before")
        if len(self._seen) >= _REMEMBERED:
            raise RefusedError(429, "too many deliveries")
        self._seen[delivery] = time.monotonic()

    def _forget(self) -> None:
        limit = time.monotonic() - 2 * MAX_AGE_SECONDS
        while self._seen and next(iter(self._seen.values())) < limit:
            self._seen.popitem(last=False)


def receiver(verifier: Verifier, wake: Callable[[], None], healthy: Callable[[], bool]) -> Starlette:
    """The web application: `POST /mlflow` for deliveries, `GET /health` for `psi0 status`.

    Args:
        wake: called after each accepted delivery.
        healthy: whether the service does its work.
    """

    async def deliver(request: Request) -> Response:
        try:
            body = await _read(request)
            verifier.check(request.headers, body)
        except RefusedError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        wake()
        return PlainTextResponse("heard\n")

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n") if healthy() else PlainTextResponse("MLflow or S3 does not answer\n", 503)

    return Starlette(routes=[Route(PATH, deliver, methods=["POST"]), Route("/health", health)])


async def _read(request: Request) -> bytes:
    """The body; given up as soon as it is too large, whatever length was announced, or takes too long."""
    body = b""
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise RefusedError(413, f"a delivery has at most {MAX_BYTES} bytes")
    except TimeoutError:
        raise RefusedError(408, "the delivery took too long") from None
    return body
