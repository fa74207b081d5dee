"""One recipe per workspace: the lock, and who holds it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from psi0.errors import Psi0Error
from psi0.files import write_json
from psi0.settings import settings


def recipe_folder() -> Path:
    """Folder of this checkout's recipe runs: lock, pid file, timings, summaries."""
    folder = settings().home / "recipe"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def one_recipe_at_a_time(name: str, run_id: str) -> Iterator[str | None]:
    """Hold the workspace while a recipe runs; yields the id of the run before, when that was killed while it held it.

    Raises:
        Psi0Error: another run holds it; the message names that one.
    """
    lock, holder = FileLock(recipe_folder() / "lock", timeout=0), recipe_folder() / "holder.json"
    try:
        lock.acquire()
    except Timeout:
        raise Psi0Error(_busy(holder)) from None
    try:
        killed = _holder(holder).get("run_id")
        write_json(holder, {"name": name, "run_id": run_id, "since": time.strftime("%H:%M:%S")})
        yield killed
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def check_no_recipe_runs() -> None:
    """Raise `Psi0Error` naming the run that holds the workspace, if one does."""
    lock = FileLock(recipe_folder() / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise Psi0Error(_busy(recipe_folder() / "holder.json")) from None
    lock.release()


def _holder(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _busy(path: Path) -> str:
    holder = _holder(path)
    who = f"{holder['name']!r}, since {holder['since']}" if {"name", "since"} <= holder.keys() else "another one"
    return (
        f"a recipe runs in this workspace already ({who}); wait for it, or cancel it "
        "(Ctrl-C where it was started, or `prefect flow-run cancel`)"
    )
