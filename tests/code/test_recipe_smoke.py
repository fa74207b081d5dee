"""The whole recipe at smoke size through the real deployment: services, flow, stages, registry, verdict."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ports import stack_ports

pytestmark = pytest.mark.smoke


@pytest.fixture
def workspace(checkout: Callable[[str], Path]) -> Iterator[tuple[Path, dict[str, str]]]:
    """A checkout with the smoke profile, its own services and ports; the services are stopped afterwards."""
    folder = checkout("smoke")
    own = ("PSI0_", "PREFECT_", "MLFLOW_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    environment |= stack_ports()
    subprocess.run(["psi0", "params", "use", "smoke"], cwd=folder, check=True, env=environment)
    try:
        yield folder, environment
    finally:
        subprocess.run(["psi0", "down"], cwd=folder, env=environment, check=False)


def _recipe(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.run", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def test_the_recipe_runs_to_an_honest_refusal(workspace: tuple[Path, dict[str, str]]) -> None:
    folder, environment = workspace
    first = _recipe(folder, environment, "--tasks", "pick_can")
    assert first.returncode == 0, first.stdout[-6000:] + first.stderr[-3000:]
    verdict = json.loads((folder / "gate/pick_can/gate.json").read_text())
    assert verdict["verdict"] == "refuse"
    assert "no bundle" in first.stdout
    assert re.search(r"psi0-pick_can.*version 1", first.stdout)
    assert (folder / "gate/pick_can/report.html").stat().st_size > 10_000
    assert (folder / "dvc.lock").exists()

    second = _recipe(folder, environment, "--tasks", "pick_can", "--strict")
    assert second.returncode == 3, second.stdout[-6000:] + second.stderr[-3000:]
    assert "up to date" in second.stdout
    assert "version 2" not in second.stdout
