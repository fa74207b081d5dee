"""infra/setup.sh picks the installer that finds the right build of torch, and says so when it cannot."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REFUSAL = "uv cannot be fetched"


class Setup:
    """Runs the script where neither uv nor a GPU is found, up to pip: a stand-in writes down what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.venv, self.path = folder / "venv", folder / "bin"
        self.path.mkdir()
        for tool in ("bash", "cut"):
            (self.path / tool).symlink_to(shutil.which(tool) or tool)
        (self.path / "python3.11").symlink_to(Path(sys.executable).resolve())
        (self.venv / "bin").mkdir(parents=True)
        recorder = self.venv / "bin/python"
        recorder.write_text('#!/bin/bash\necho "$@" >&2\nexit 7\n')
        recorder.chmod(0o755)

    def run(self, **environment: str) -> "subprocess.CompletedProcess[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "PSI0_"))}
        settings = {"PATH": str(self.path), "PIP_CONFIG_FILE": os.devnull} | environment
        command = ["bash", "infra/setup.sh", str(self.venv)]
        return subprocess.run(command, env=clean | settings, capture_output=True, text=True)


@pytest.fixture
def setup(tmp_path: Path, in_repository: None) -> Setup:
    return Setup(tmp_path)


def test_pip_without_a_gpu_fetches_uv_for_a_cpu_build(setup: Setup) -> None:
    answer = setup.run()
    assert "-m pip install" in answer.stderr and "-c constraints.txt uv" in answer.stderr
    assert answer.returncode == 1 and REFUSAL in answer.stderr
    assert "uv" in answer.stderr and "PIP_FIND_LINKS" in answer.stderr and "PSI0_ALLOW_CUDA_TORCH=1" in answer.stderr


@pytest.mark.parametrize("name", ["PIP_FIND_LINKS", "UV_FIND_LINKS"])
def test_a_folder_configured_for_either_installer_reaches_pip(setup: Setup, name: str) -> None:
    answer = setup.run(**{name: "/somewhere/wheels"})
    assert answer.returncode == 7 and REFUSAL not in answer.stderr
    assert "-m pip install" in answer.stderr and "--find-links /somewhere/wheels" in answer.stderr


def test_the_cuda_build_can_be_asked_for(setup: Setup) -> None:
    answer = setup.run(PSI0_ALLOW_CUDA_TORCH="1")
    assert answer.returncode == 7 and "-m pip install" in answer.stderr and "--find-links" not in answer.stderr
