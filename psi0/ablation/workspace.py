"""An arm's workspace: a clone of this checkout with the arm's parameters, which shares DVC's cache with all others.

What two arms have in common (recordings, prepared data, stages before the one that differs) is built once: DVC's run
cache hands it to the second.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from psi0.errors import Psi0Error
from psi0.files import write_text
from psi0.lineage import git_state
from psi0.params import PARAMS_FILE, Params
from psi0.profiles import render
from psi0.settings import settings

_LAST_LINES = 15
_DVC = (sys.executable, "-m", "dvc")


def committed(results: Path) -> str:
    """The commit of this checkout, which workspaces are clones of; changes under `results` are none to it.

    Raises:
        Psi0Error: this is no Git checkout, or has changes that are not committed.
    """
    commit, _ = git_state()
    if commit == "unknown":
        raise Psi0Error("psi0 ablate clones this checkout for every arm, and this folder is none of Git's")
    command = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock"]
    if results.absolute().is_relative_to(Path.cwd()):
        command.append(f":!{results.absolute().relative_to(Path.cwd())}")
    if _run(command, Path.cwd()).strip():
        raise Psi0Error("psi0 ablate clones what is committed, and this checkout has changes; commit or stash them")
    return commit


def prepare_workspace(name: str, params: Params, commit: str) -> Path:
    """Make or bring up to date the workspace of an arm: `<home>/ablation/<name>`, at a commit of this checkout.

    Raises:
        Psi0Error: this checkout cannot be cloned.
    """
    folder = settings().home.absolute() / "ablation" / name
    if not (folder / ".git").exists():
        _run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(Path.cwd()), str(folder)], Path.cwd())
    _run(["git", "fetch", "--quiet", "origin"], folder)
    _run(["git", "checkout", "--quiet", "--force", "--detach", commit], folder)
    write_text(folder / PARAMS_FILE, render(params))
    cache = _run([*_DVC, "cache", "dir"], Path.cwd()).strip()
    _run([*_DVC, "config", "--local", "cache.dir", str(Path(cache).absolute())], folder)
    return folder


def build(folder: Path, stage: str, hear: Callable[[str], None]) -> None:
    """Bring a stage of a workspace and all before it up to date, passing on every line it says.

    Raises:
        Psi0Error: a stage failed; its last lines are named.
    """
    # Its own code, not that of the checkout the environment was installed from; its own scratch; no service.
    own = {name: value for name, value in os.environ.items() if name not in ("PSI0_HOME", "PSI0_MLFLOW_URI")}
    own["PYTHONPATH"] = str(folder)
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    command = [*_DVC, "repro", stage]
    heard: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                heard.append(line.rstrip())
                hear(heard[-1])
        except BaseException:
            child.terminate()
            raise
    if child.returncode:
        said = "\n  ".join(heard[-_LAST_LINES:])
        raise Psi0Error(f"{stage} failed in {folder}:\n  {said}\nmend it and type the command again; it goes on")


def _run(command: Sequence[str], folder: Path) -> str:
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if answer.returncode:
        raise Psi0Error(f"{' '.join(command[:3])} failed in {folder}: {answer.stderr.strip()[-300:]}")
    return answer.stdout
