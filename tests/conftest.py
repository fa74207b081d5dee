"""Fixtures that several rooms' tests share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# Every test finds the `psi0`, `dvc` and `prefect` of this environment, activated or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("DVC_NO_ANALYTICS", "1")


@pytest.fixture
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the repository itself, for tests that read its own files."""
    monkeypatch.chdir(REPOSITORY)


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=psi0", "-c", "user.email=psi0@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[[str], Path]:
    """Make a checkout of the working tree as it stands, in its own git repository, and return its folder."""

    def make(name: str = "checkout") -> Path:
        target = tmp_path / name
        listing = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
        )
        for line in listing.stdout.splitlines():
            if (REPOSITORY / line).is_file() and line != "dvc.lock":
                (target / line).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / line, target / line)
        _git(target, "init", "-q", "-b", "main")
        _git(target, "add", "-A")
        _git(target, "commit", "-qm", "checkout")
        return target

    return make


@pytest.fixture(scope="session")
def robot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated robot: the checkout's, or made once for all tests."""
    from psi0 import paths

    made = REPOSITORY / paths.ROBOT
    if (made / "manifest.json").exists():
        return made
    folder = tmp_path_factory.mktemp("robot")
    subprocess.run(["psi0", "params", "use", "tiny"], cwd=folder, check=True, capture_output=True)
    subprocess.run(["psi0", "stage", "robot"], cwd=folder, check=True, capture_output=True)
    return folder / paths.ROBOT


@pytest.fixture
def here(tmp_path: Path, robot_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing but the robot, to work in."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "robot").symlink_to(robot_folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path
