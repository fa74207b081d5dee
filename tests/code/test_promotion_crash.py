"""A promotion that is killed, raced, refused an answer or told a wrong time: the champion is never lost."""

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from urllib.parse import urlparse

import pytest
from mlflow import MlflowClient

from psi0 import storage
from psi0.connection import connect
from psi0.deploy.publish import read_pointer
from psi0.deploy.verify import verify
from psi0.errors import Psi0Error
from psi0.registry import lock
from psi0.registry.champion import CHAMPION_TAG, read_state
from psi0.registry.lock import LockLostError, PromotionBusyError, hold
from psi0.registry.promotion import UPLOADED, PromotionLostError, promote
from psi0.registry.reconcile import reconcile
from psi0.registry.steps import ALIAS_MOVED, STEPS, PromotionStoppedError, no_step
from psi0.registry.tracking import open_tracking
from psi0.registry.versions import aliases, find_version
from psi0.settings import Settings
from tests.code.conftest import forget_task
from tests.code.failing_proxy import failing_proxy
from tests.code.judged_versions import BAD, TASK, played_as, register_version

LOCK = "a-lock"
fork = multiprocessing.get_context("fork")


def pointer_key(task: str = TASK) -> dict[str, str]:
    return {"Bucket": connect().bucket, "Key": f"channels/{task}/stable.json"}


@pytest.fixture(scope="module")
def made() -> list[str]:
    """Versions that this module's tests share once they are made."""
    return []


@pytest.fixture
def two_champions(tracking: MlflowClient, made: list[str], tmp_path: Path) -> MlflowClient:
    """A registry whose versions 1 and 2 were champions; 2 is, and 1 is the way back."""
    if not made:
        forget_task(tracking)
        made += [register_version(tracking, tmp_path).number for _ in range(2)]
    state = read_state(tracking, TASK)
    for number in () if (state.recorded, state.recorded_previous) == ("2", "1") else ("1", "2"):
        promote(tracking, TASK, number, compare=played_as(0))
    reconcile(tracking, TASK, "the fixture")
    return tracking


def run_and_die_at(step: str, version: str) -> None:
    """Promote a version in a child that is killed right after a step."""

    def die(taken: str) -> None:
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)

    child = fork.Process(target=lambda: promote(open_tracking(), TASK, version, because="on and off", step=die))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL, f"it was not killed at {step}"


def test_killed_at_any_step_the_next_run_puts_everything_right(two_champions: MlflowClient) -> None:
    old, new = "2", "1"
    for step in (UPLOADED, *STEPS):
        run_and_die_at(step, new)
        killed = read_state(two_champions, TASK)
        assert killed.champion in (old, new) and killed.alias in (old, new)
        assert killed.pointer is not None and verify(killed.pointer.address)
        moved = step == UPLOADED or STEPS.index(step) >= STEPS.index(ALIAS_MOVED)
        moved = moved and step != UPLOADED
        reconcile(two_champions, TASK, "the next run")
        repaired = read_state(two_champions, TASK)
        assert repaired.settled, step
        assert repaired.champion == (new if moved else old), step
        assert repaired.recorded_previous == (old if moved else new), step
        if moved:
            tags = find_version(two_champions, TASK, new).tags
            assert tags["promoted_because"] == "on and off", "finished as it was begun"
            old, new = new, old
    assert promote(two_champions, TASK, new).champion == new


def test_the_next_promotion_finishes_the_killed_one_first(two_champions: MlflowClient, tmp_path: Path) -> None:
    third = register_version(two_champions, tmp_path)
    run_and_die_at(ALIAS_MOVED, "1")
    heard: list[str] = []
    result = promote(two_champions, TASK, third.number, compare=played_as(0), step=heard.append)
    assert (result.champion, result.previous) == (third.number, "1"), "version 1 became champion before it was followed"
    assert heard.count(ALIAS_MOVED) == 2
    assert read_state(two_champions, TASK).settled


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(two_champions: MlflowClient, tmp_path: Path) -> None:
    numbers = [register_version(two_champions, tmp_path).number for _ in range(2)]
    start, answers = fork.Barrier(2), fork.Queue()

    def race(number: str) -> None:
        def meet(step: str) -> None:
            if step == UPLOADED:
                start.wait(60)

        try:
            answers.put((number, promote(open_tracking(), TASK, number, compare=played_as(0), step=meet).champion))
        except PromotionLostError as error:
            answers.put((number, str(error)))

    racers = [fork.Process(target=race, args=(number,)) for number in numbers]
    for racer in racers:
        racer.start()
    found = dict(answers.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join()
    champion = read_state(two_champions, TASK).champion
    assert champion in numbers and found[champion] == champion
    loser = next(number for number in numbers if number != champion)
    assert f"version {champion} became champion while version {loser} was being prepared" in found[loser]
    assert read_state(two_champions, TASK).settled


def test_a_living_holder_keeps_the_lock_whatever_the_clock_says(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    holds, done = fork.Event(), fork.Event()

    def work() -> None:
        with hold(LOCK, "ada"):
            holds.set()
            done.wait(60)

    holder = fork.Process(target=work)
    holder.start()
    assert holds.wait(60)
    real = time.time
    for shift in (-86400.0, 86400.0):
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
        with pytest.raises(PromotionBusyError, match=r"ada, process \d+"), hold(LOCK, "bob", patience_seconds=0.5):
            pass
    done.set()
    holder.join()
    with hold(LOCK, "bob", patience_seconds=10) as held:
        assert held.left is None


def test_a_silent_holder_loses_the_lock_and_notices(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 3600.0)
    monkeypatch.setattr(lock, "SILENCE_SECONDS", 0.5)
    with hold(LOCK, "ada") as ada:
        with hold(LOCK, "bob", patience_seconds=10), pytest.raises(LockLostError):
            ada.confirm()
        with pytest.raises(LockLostError):
            ada.finish()
    with hold(LOCK, "bob", patience_seconds=0.5):
        pass


def test_a_promotion_survives_a_clock_that_goes_back(
    two_champions: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    promote(two_champions, TASK, "1")
    state = read_state(two_champions, TASK)
    assert state.settled and (state.champion, state.recorded_previous) == ("1", "2")


def test_an_alias_moved_by_hand_is_a_request(two_champions: MlflowClient, tmp_path: Path) -> None:
    refused = register_version(two_champions, tmp_path, BAD)
    untried = register_version(two_champions, tmp_path)
    name = refused.name
    for version, kind, reason in (
        (refused, "refused", "the floor test says no"),
        (untried, "waiting", "was not compared with champion version 2"),
    ):
        two_champions.set_registered_model_alias(name, "champion", version.number)
        settled = reconcile(two_champions, TASK, "watch", publish=None)
        assert settled.kind == kind and reason in settled.message
        assert aliases(two_champions, TASK)["champion"] == "2"
        tags = find_version(two_champions, TASK, version.number).tags
        assert tags["promotion"] == kind and "the alias went back to version 2" in tags["promotion_reason"]
    two_champions.set_registered_model_alias(name, "champion", "1")
    assert reconcile(two_champions, TASK, "watch", publish=None).kind == "requested"
    assert aliases(two_champions, TASK)["champion"] == "1", "it stays while it is being published"
    assert reconcile(two_champions, TASK, "watch").kind == "promoted"
    assert read_state(two_champions, TASK).settled and read_pointer(TASK).version == "1"  # type: ignore[union-attr]
    two_champions.delete_registered_model_alias(name, "champion")
    assert reconcile(two_champions, TASK, "watch", publish=None).kind == "repaired"
    assert aliases(two_champions, TASK)["champion"] == "1"


@pytest.mark.parametrize("harm", ["pointer deleted", "pointer broken", "record deleted", "previous moved"])
def test_what_was_lost_or_edited_is_put_right(two_champions: MlflowClient, harm: str) -> None:
    s3 = storage.client(connect())
    if harm == "pointer deleted":
        s3.delete_object(**pointer_key())
    elif harm == "pointer broken":
        s3.put_object(**pointer_key(), Body=b"{")
    elif harm == "record deleted":
        two_champions.delete_registered_model_tag(f"psi0-{TASK}", CHAMPION_TAG)
    else:
        two_champions.set_registered_model_alias(f"psi0-{TASK}", "previous", "2")
    assert not read_state(two_champions, TASK).settled
    assert reconcile(two_champions, TASK, "the next run").kind in ("promoted", "repaired")
    state = read_state(two_champions, TASK)
    assert state.settled and (state.champion, state.recorded_previous) == ("2", "1")


class Moody:
    """Answers 500 to some requests that match, and remembers how often."""

    def __init__(self, pattern: str, times: float) -> None:
        self.pattern, self.times, self.seen = re.compile(pattern), times, count(1)
        self.failed = 0

    def __call__(self, method: str, path: str, body: bytes) -> bool:
        if self.pattern.search(f"{method} {path} {body.decode(errors='replace')}") is None or self.failed >= self.times:
            return False
        self.failed += 1
        return True


@pytest.fixture
def through_proxy(
    two_champions: MlflowClient, use_settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Moody], Psi0Error | None]:
    """Promote version 1 through a proxy that fails; returns the error, if any."""
    port = urlparse(connect().mlflow_uri).port
    assert port is not None
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")

    def run(moody: Moody) -> Psi0Error | None:
        with failing_proxy(port, moody) as address:
            try:
                promote(MlflowClient(address, address), TASK, "1", step=no_step)
            except Psi0Error as error:
                return error
        return None

    return run


SET_CHAMPION = r'POST .*/registered-models/alias .*"champion"'


def test_an_mlflow_that_stumbles_is_asked_again(
    through_proxy: Callable[[Moody], Psi0Error | None], two_champions: MlflowClient
) -> None:
    moody = Moody(SET_CHAMPION, times=2)
    assert through_proxy(moody) is None
    assert moody.failed == 2
    assert read_state(two_champions, TASK).champion == "1"


@pytest.mark.parametrize(
    ("pattern", "last"),
    [(SET_CHAMPION, "previous champion kept"), (r"POST .*/registered-models/set-tag .*psi0.champion", "pointer moved")],
)
def test_an_mlflow_that_fails_half_way_is_reported_and_the_next_run_goes_on(
    through_proxy: Callable[[Moody], Psi0Error | None], two_champions: MlflowClient, pattern: str, last: str
) -> None:
    error = through_proxy(Moody(pattern, times=float("inf")))
    assert isinstance(error, PromotionStoppedError)
    assert f"{last}. Reason:" in str(error) and "psi0 promote pick_can 1" in str(error)
    assert read_state(two_champions, TASK).champion in ("1", "2")
    promote(two_champions, TASK, "1")
    state = read_state(two_champions, TASK)
    assert state.settled and (state.champion, state.recorded_previous) == ("1", "2")
