"""A checkout's folders with a robot, for tests that run the prepare stages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from psi0.params import Params
from psi0.robot.layout import ALL_JOINTS


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout whose robot has wide joint limits; the current folder."""
    from psi0.robot.constants import COMMAND_LIMITS
    from psi0.settings import settings

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PSI0_HOME", str(tmp_path / ".psi0"))
    settings.cache_clear()
    joints = {name: {"low": -1.0, "high": 1.0, "velocity": 10.0, "effort": 10.0} for name in ALL_JOINTS}
    commands = {name: {"low": -10.0, "high": 10.0} for name in COMMAND_LIMITS}
    folder = tmp_path / "data/robot"
    folder.mkdir(parents=True)
    (folder / "limits.json").write_text(json.dumps({"schema_version": 1, "joints": joints, "commands": commands}))
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def params() -> Callable[..., Params]:
    """Parameters with small pictures; blocks may be overridden."""

    def make(**blocks: dict[str, Any]) -> Params:
        small = {"camera": {"width": 32, "height": 24}, "prepare": {"max_bad_share": 0.5}}
        return Params.model_validate({**small, **blocks})

    return make
