"""The service `watch`: an alias `champion` that somebody moved in MLflow's page is answered within ten seconds.

MLflow's webhook wakes it; a poll every few seconds finds what the webhook missed (MLflow gives up on a receiver that
was away). What suffices is published by the flow `promote`; what does not goes back, with the reason on the version.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import uvicorn
from mlflow import MlflowClient

from flows.promotion_runs import REFUSED, ask_for_promotion, state_of, tell
from infra.services.webhook import PATH, Verifier, receiver
from psi0.connection import read_secrets
from psi0.errors import Psi0Error
from psi0.params import TASKS
from psi0.registry.champion import CHAMPION_TAG
from psi0.registry.lock import PromotionBusyError
from psi0.registry.reconcile import BY_HAND, Settled, reconcile
from psi0.registry.tracking import explained, open_tracking
from psi0.registry.versions import CHAMPION, find_version, model_name, note
from psi0.settings import Settings, settings

POLL_SECONDS = 3.0
_CHECK_SECONDS = 60.0
_PATIENCE_SECONDS = 30.0
_STALE_SECONDS = 30.0
_WEBHOOK = "psi0-watch"
_EVENTS: list[Any] = ["model_version_alias.created", "model_version_alias.deleted"]
_BECAUSE = "the alias champion was moved to it in MLflow"

_log = logging.getLogger("psi0.watch")


@dataclass
class Request:
    """A promotion that was handed to a flow."""

    version: str
    run: UUID
    since: float


class Watch:
    """Looks at the aliases, now and then and whenever it is woken."""

    def __init__(self, ask: Callable[[str, str, str, str], UUID] = ask_for_promotion) -> None:
        """`ask` hands (task, version, by, because) to a flow."""
        self._ask = ask
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._requests: dict[str, Request] = {}
        self._checked: dict[str, float] = {}
        self._looked = 0.0
        self._complaint = ""
        self._client: MlflowClient | None = None

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    def stop(self) -> None:
        """End `run` after the look it is at."""
        self._stopped.set()
        self._woken.set()

    def healthy(self) -> bool:
        """Whether the last look succeeded, not long ago."""
        return bool(self._looked) and time.monotonic() - self._looked < _STALE_SECONDS

    def run(self, ready: Callable[[MlflowClient], None] = lambda client: None) -> None:
        """Look until stopped. `ready` is called once, when MLflow first answers."""
        introduced = False
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                if self._client is None:
                    self._client = open_tracking()
                if not introduced:
                    ready(self._client)
                    introduced = True
                self.look(self._client)
                self._looked, self._complaint = time.monotonic(), ""
            except Exception as error:
                self._complain(error)
                self._client = None
            self._woken.wait(POLL_SECONDS)

    def look(self, client: MlflowClient) -> None:
        """Answer every task whose alias is not where the record says."""
        with explained("reading the aliases"):
            models = {model.name: model for model in client.search_registered_models("name LIKE 'psi0-%'")}
        failed: Exception | None = None
        for task in TASKS:
            model = models.get(model_name(task))
            if model is None:
                continue
            moved = str(model.aliases.get(CHAMPION, "")) != model.tags.get(CHAMPION_TAG, "")
            due = time.monotonic() - self._checked.get(task, -_CHECK_SECONDS) >= _CHECK_SECONDS
            if moved or due:
                try:
                    self._answer(client, task)
                except Exception as error:
                    failed = error
        if failed is not None:
            raise failed

    def _answer(self, client: MlflowClient, task: str) -> None:
        try:
            settled = reconcile(client, task, "watch", publish=None, patience_seconds=0)
        except PromotionBusyError:
            return
        self._checked[task] = time.monotonic()
        if settled.kind in ("requested", "waiting"):
            self._request(client, task, settled)
        elif settled.kind != "consistent":
            _log.info("%s", settled.message)
            if settled.kind == "refused" and settled.version is not None:
                tell(REFUSED, task, settled.version, settled.message)

    def _request(self, client: MlflowClient, task: str, settled: Settled) -> None:
        """Hand a promotion to a flow, unless one is at it, or failed a moment ago."""
        assert settled.version is not None
        known = self._requests.get(task)
        if known is not None and known.version == settled.version:
            state = state_of(known.run)
            if state is not None and not state.is_final():
                return
            if time.monotonic() - known.since < _PATIENCE_SECONDS:
                return
            if state is not None and not state.is_completed():
                _log.warning("run %s of %s version %s: %s", known.run, task, settled.version, state.message)
                reason = f"accepted, not published yet: {state.message}"
                note(
                    client, find_version(client, task, settled.version), promotion="requested", promotion_reason=reason
                )
        run = self._ask(task, settled.version, BY_HAND, _BECAUSE)
        self._requests[task] = Request(settled.version, run, time.monotonic())
        _log.info("%s; flow run %s is asked to promote version %s", settled.message, run, settled.version)

    def _complain(self, error: Exception) -> None:
        """Say what is wrong, once."""
        message = str(error) or type(error).__name__
        if message != self._complaint:
            _log.error("%s", message, exc_info=None if isinstance(error, Psi0Error) else error)
        self._complaint = message


def introduce(client: MlflowClient, config: Settings, secret: str) -> None:
    """Have the local MLflow call this service; one elsewhere could not reach it, and is polled alone."""
    if config.mlflow_uri is not None:
        return
    url = f"http://{config.host}:{config.watch_port}{PATH}"
    with explained("registering the webhook"):
        known = [hook for hook in client.list_webhooks() if hook.name == _WEBHOOK]
        if known:
            client.update_webhook(known[0].webhook_id, url=url, events=_EVENTS, secret=secret, status="ACTIVE")
        else:
            client.create_webhook(_WEBHOOK, url, _EVENTS, "Tells psi0 that an alias was moved", secret)


def main() -> None:
    """Run the service until it is told to stop. Raises `Psi0Error` before `psi0 up` made the keys."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config, secrets = settings(), read_secrets()
    if secrets is None or not secrets.webhook_secret:
        raise Psi0Error("the key of the webhook is missing; `psi0 up` makes it")
    watch, secret = Watch(), secrets.webhook_secret
    worker = threading.Thread(target=watch.run, args=(lambda client: introduce(client, config, secret),), daemon=True)
    worker.start()
    application = receiver(Verifier(secret), watch.wake, watch.healthy)
    uvicorn.run(
        application,
        host=config.host,
        port=config.watch_port,
        log_level="warning",
        access_log=False,
        limit_concurrency=32,
    )
    watch.stop()


if __name__ == "__main__":
    main()
