"""One promotion per task at a time: a lock object on S3 that is also the journal of what is under way.

`locks/<task>.json` is only ever replaced by conditional puts. No clock is compared: the holder counts a heartbeat up,
and who wants the lock watches it by its own monotonic clock. A holder that is silent for `SILENCE_SECONDS`, or whose
process is known to be dead (same machine), loses it. What it was at stays in the object for the next one to finish.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0 import storage
from psi0.connection import connect
from psi0.errors import Psi0Error

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 12.0
PATIENCE_SECONDS = SILENCE_SECONDS + 8.0
"""Long enough to outlive a holder that died on another machine."""
_POLL_SECONDS = 0.3
_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")

_silent_since: dict[str, tuple[str, float]] = {}


class PromotionBusyError(Psi0Error):
    """Another promotion of this task is at work."""


class LockLostError(Psi0Error):
    """Another process took the lock over, because this one was silent for too long."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Owner(_Record):
    """The process that holds the lock."""

    who: str
    place: str = Field(description="Machine, boot and process namespace in which the process number means something")
    pid: int
    started: int = Field(description="Ticks between boot and its begin; tells reused process numbers apart")


class Work(_Record):
    """A promotion under way, with all that is needed to finish it."""

    candidate: str = Field(description="Version that becomes champion")
    champion: str | None = Field(description="Champion before")
    how: Literal["evidence", "override"]
    by: str
    because: str
    reasons: list[str] = Field(description="What the evidence lacks, where it was overridden")
    address: str = Field(description="s3:// address of the verified bundle")


class LockFile(_Record):
    """`locks/<task>.json`."""

    schema_version: Literal[1] = 1
    owner: Owner | None = Field(None, description="None: free")
    beat: int = 0
    nonce: str = Field("", description="Makes equal states different objects")
    work: Work | None = Field(None, description="What is, or was, under way")


class Held:
    """A lock in this process's hands."""

    def __init__(self, task: str, owner: Owner, left: Work | None, version: str) -> None:
        self.task = task
        self.left = left
        """What an earlier holder left unfinished."""
        self._owner, self._work, self._version, self._beat = owner, left, version, 0
        self._turn = threading.Lock()
        self._lost = False

    def begin(self, work: Work) -> None:
        """Write down what is about to be done. Raises `LockLostError`."""
        self._write(self._owner, work)

    def finish(self) -> None:
        """Write down that nothing is under way any more. Raises `LockLostError`."""
        self.left = None
        self._write(self._owner, None)

    def confirm(self) -> None:
        """Raise `LockLostError` unless the lock is still ours; to be asked before each step."""
        self._write(self._owner, self._work)

    def release(self) -> None:
        """Give the lock back; work that was not finished stays written down."""
        self._write(None, self._work)

    def beat(self, stop: threading.Event) -> None:
        """Count the heartbeat up until `stop` is set or the lock is lost."""
        while not stop.wait(BEAT_SECONDS):
            try:
                self.confirm()
            except LockLostError:
                return
            except Psi0Error:
                continue

    def _write(self, owner: Owner | None, work: Work | None) -> None:
        with self._turn:
            if self._lost:
                raise _lost(self.task)
            self._beat += 1
            content = LockFile(owner=owner, beat=self._beat, nonce=secrets.token_hex(8), work=work)
            version = _put(self.task, content, self._version)
            if version is None:
                self._lost = True
                raise _lost(self.task)
            self._version, self._work = version, work


@contextmanager
def hold(task: str, who: str, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Held]:
    """Hold the lock of a task, with a heartbeat, while the block runs.

    Args:
        who: named in the message that others get.
        patience_seconds: how long to wait for another holder; 0 asks once.

    Raises:
        PromotionBusyError: another process holds it and is alive.
        Psi0Error: S3 does not answer, or the lock object is not one that this psi0 reads.
    """
    held = _acquire(task, who, patience_seconds)
    stop = threading.Event()
    beating = threading.Thread(target=held.beat, args=(stop,), name=f"lock-{task}", daemon=True)
    beating.start()
    try:
        yield held
    finally:
        stop.set()
        beating.join()
        # Where S3 is away, the silence of the heartbeat frees the lock.
        with suppress(Psi0Error):
            held.release()


def _acquire(task: str, who: str, patience_seconds: float) -> Held:
    owner = Owner(who=who, place=_place(), pid=os.getpid(), started=_started(os.getpid()) or 0)
    deadline = time.monotonic() + patience_seconds
    while True:
        found, version = _read(task)
        if found.owner is None or _is_dead(task, found.owner, version):
            content = LockFile(owner=owner, nonce=secrets.token_hex(8), work=found.work)
            taken = _put(task, content, version)
            if taken is not None:
                return Held(task, owner, found.work, taken)
        elif time.monotonic() >= deadline:
            raise PromotionBusyError(
                f"a promotion of {task} is at work already ({found.owner.who}, process {found.owner.pid}"
                f"{f', version {found.work.candidate}' if found.work else ''}); wait for it, then try again"
            )
        time.sleep(_POLL_SECONDS)


def _is_dead(task: str, owner: Owner, version: str) -> bool:
    """Whether the holder is gone: its process, or its heartbeat for longer than it may pause."""
    if owner.started and owner.place == _place() and _started(owner.pid) != owner.started:
        return True
    now = time.monotonic()
    seen, since = _silent_since.get(task, ("", now))
    if seen != version:
        _silent_since[task] = (version, now)
        return False
    return now - since > SILENCE_SECONDS


def _place() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [socket.gethostname(), boot.read_text().strip() if boot.exists() else ""]
    return "/".join([*parts, str(namespace.readlink()) if namespace.exists() else ""])


def _started(pid: int) -> int | None:
    """Ticks between boot and the begin of a process, which no change of the clock moves; None when there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def _read(task: str) -> tuple[LockFile, str]:
    """The lock object and its version ("" where there is none yet)."""
    connection = connect()
    s3: Any = storage.client(connection)
    key = _key(task)
    try:
        with storage.explained(connection):
            answer = storage.healed(s3.get_object)(Bucket=connection.bucket, Key=key)
            return LockFile.model_validate_json(answer["Body"].read()), str(answer["ETag"])
    except FileNotFoundError:
        return LockFile(), ""
    except ValidationError as error:
        raise Psi0Error(
            f"s3://{connection.bucket}/{key} is not a lock that this psi0 reads ({error.error_count()} problems); "
            "use the psi0 that wrote it, or remove it while no promotion is at work"
        ) from None


def _put(task: str, content: LockFile, version: str) -> str | None:
    """Replace the lock object if it is still `version`; returns the new version, or None when another was faster."""
    connection = connect()
    s3: Any = storage.client(connection)
    body = json.dumps(content.model_dump(mode="json"), indent=2).encode()
    condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
    with storage.explained(connection):
        try:
            answer = s3.put_object(
                Bucket=connection.bucket, Key=_key(task), Body=body, ContentType="application/json", **condition
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _LOST:
                return _own_write(task, content)
            raise
    return str(answer["ETag"])


def _own_write(task: str, content: LockFile) -> str | None:
    """The version of our own write, when its answer was lost and a repetition then found it in its way."""
    found, version = _read(task)
    return version if found == content else None


def _key(task: str) -> str:
    return f"locks/{task}.json"


def _lost(task: str) -> LockLostError:
    return LockLostError(
        f"the lock of {task} was taken over while this process was silent; what it had begun is finished by the other "
        "one or by the next run"
    )
