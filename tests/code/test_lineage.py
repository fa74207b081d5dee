"""Fingerprints and the state of the checkout."""

import subprocess
from pathlib import Path

import pytest

from psi0.errors import Psi0Error
from psi0.files import write_json
from psi0.lineage import Checkout, Lineage, fingerprint_folder, git_state, lineage, read_lineage, write_lineage
from psi0.params import Params


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=psi0", "-c", "user.email=psi0@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    for name in ("dvc.lock", "code.py"):
        (tmp_path / name).write_text("first\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_changed_lock_file_alone_is_not_dirt(repository: Path) -> None:
    assert git_state() == (git_state()[0], False) and len(git_state()[0]) == 40
    (repository / "dvc.lock").write_text("second\n")
    assert not git_state()[1]
    git(repository, "add", "dvc.lock")
    assert not git_state()[1]
    (repository / "code.py").write_text("second\n")
    assert git_state()[1] and Checkout.now().dirty


def test_no_checkout_is_said(tmp_path: Path) -> None:
    assert git_state(tmp_path / "nowhere") == ("unknown", False)


def test_the_record_of_an_output_follows_its_inputs_not_the_commit(repository: Path) -> None:
    (repository / "data").mkdir()
    (repository / "data/table").write_text("1")
    before = lineage(Params().finetune, data=Path("data"), single=Path("code.py"))
    git(repository, "commit", "-qm", "second", "--allow-empty")
    assert lineage(Params().finetune, data=Path("data"), single=Path("code.py")) == before
    assert lineage(Params().posttrain, data=Path("data")).params_sha256 != before.params_sha256
    (repository / "data/table").write_text("2")
    assert lineage(Params().finetune, data=Path("data")).data["data"] != before.data["data"]
    (repository / "code.py").write_text("second\n")
    assert lineage(Params().finetune, single=Path("code.py")).data["single"] != before.data["single"]


def test_records_of_how_a_folder_was_made_are_no_part_of_its_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("1")
    before = fingerprint_folder(tmp_path)
    write_lineage(tmp_path, Lineage(params_sha256="0" * 64))
    for name in ("metrics.json", "history.jsonl", "history.csv"):
        (tmp_path / name).write_text("{}")
    assert fingerprint_folder(tmp_path) == before
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/metrics.json").write_text("{}")
    assert fingerprint_folder(tmp_path) != before


def test_a_record_of_another_version_is_named(tmp_path: Path) -> None:
    write_lineage(tmp_path, Lineage(params_sha256="0" * 64, data={"egodex": "1" * 64}, precision="float32"))
    assert read_lineage(tmp_path).precision == "float32"
    write_json(tmp_path / "lineage.json", {"schema_version": 1, "git_commit": "unknown"})
    with pytest.raises(Psi0Error, match=r"lineage\.json: schema_version: .*rebuild"):
        read_lineage(tmp_path)
