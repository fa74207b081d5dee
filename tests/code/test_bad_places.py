"""A full disk, a forbidden folder, a mistyped setting: one message each, with the real reason."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from psi0.errors import Psi0Error
from psi0.files import publish_folder, write_text
from psi0.settings import settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.mp4"), r"No such file or directory: x\.mp4$"),
        (
            PermissionError(errno.EACCES, "Permission denied", "x.mp4"),
            r"Permission denied: x\.mp4; fix the permissions",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), r"No space left on device; free some space"),
        (ConnectionResetError("gone"), r"gone$"),
    ],
)
def test_what_stops_a_stage_is_said_as_it_is(tmp_path: Path, error: OSError, message: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/kept").write_text("1")
    with pytest.raises(Psi0Error, match=message), publish_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("2")
        raise error
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "out"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(Psi0Error, match="taken cannot be written: Is a directory"):
        write_text(tmp_path / "taken", "1")


def test_a_full_disk_is_one_message(in_repository: None) -> None:
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(["psi0", "params", "show"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert answer.returncode == 1
    assert answer.stderr.strip().splitlines() == ["psi0: No space left on device; free some space"]


def test_a_mistyped_setting_is_refused_with_the_nearest(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSI0_S3_ENDPONT", "http://127.0.0.1:1")
    with pytest.raises(Psi0Error, match=r"the environment: .*PSI0_S3_ENDPONT; did you mean 'PSI0_S3_ENDPOINT'"):
        settings()
    monkeypatch.delenv("PSI0_S3_ENDPONT")
    (place / ".env").write_text("PSI0_BUCKTE=mine\n")
    with pytest.raises(Psi0Error, match=r"\.env: .*PSI0_BUCKTE; did you mean 'PSI0_BUCKET'"):
        settings()
    (place / ".env").write_text("PSI0_BUCKET=mine\nOTHER=1\n")
    monkeypatch.setenv("PSI0_STAGE_RUN", "a mark of psi0 itself")
    assert settings().bucket == "mine"


def test_names_of_other_programs_are_left_alone(place: Path) -> None:
    assert "PATH" in os.environ
    settings()
