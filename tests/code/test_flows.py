"""How the recipe runs: children that end whole, one run per workspace, DVC asked once and believed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from flows.children import MARK, end_leftover, run_child
from flows.dag import choose_tasks, read_dag
from flows.results import Result, last_minutes
from flows.stages import StageKilledError, may_be_stale, pid_file, repro, stage_environment
from flows.summary import BUDGET, StageLine, Summary, TaskLine, read_summary, render, write_summary
from flows.workspace import check_no_recipe_runs, one_recipe_at_a_time
from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.params import Params
from psi0.processes import marked

FAMILY = """
import subprocess, sys, time
sleep = "import time; time.sleep(60)"
subprocess.Popen([sys.executable, "-c", sleep])
subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_settings: Callable[..., None]) -> Path:
    monkeypatch.chdir(tmp_path)
    use_settings(home=tmp_path / "home")
    return tmp_path


def test_a_child_is_heard_line_by_line_and_leaves_its_status(tmp_path: Path) -> None:
    heard: list[str] = []
    code = "import os, sys; print('one'); print('two', file=sys.stderr); print(os.environ['COLOUR']); sys.exit(7)"
    environment = {**os.environ, "COLOUR": "red", "PYTHONUNBUFFERED": "1"}
    assert run_child([sys.executable, "-c", code], environment, heard.append, tmp_path / "pid") == 7
    assert heard == ["one", "two", "red"]
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_no_descendant_outlives_an_interrupted_run(tmp_path: Path, interruption: type[BaseException]) -> None:
    pid_file = tmp_path / "pid"
    marks: list[str] = []

    def interrupt(line: str) -> None:
        marks.append(read_json(pid_file)["mark"])
        assert len(marked(**{MARK: marks[0]})) == 3
        raise interruption

    with pytest.raises(interruption):
        run_child([sys.executable, "-c", FAMILY], os.environ, interrupt, pid_file)
    assert marked(**{MARK: marks[0]}) == []
    assert not pid_file.exists()


def test_what_a_killed_run_left_is_ended_by_the_next(tmp_path: Path) -> None:
    runner = (
        "import os, sys; from pathlib import Path; from flows.children import run_child\n"
        f"run_child([sys.executable, '-c', {FAMILY!r}], os.environ, print, Path('pid'))"
    )
    run = subprocess.Popen([sys.executable, "-uc", runner], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    mark = read_json(tmp_path / "pid")["mark"]
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert len(marked(**{MARK: mark})) == 3, "nobody ended them yet"
    assert "-c" in str(end_leftover(tmp_path / "pid"))
    assert marked(**{MARK: mark}) == []
    assert end_leftover(tmp_path / "pid") is None


def test_a_pid_file_that_is_not_ours_to_read_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text('{"pid": 1')
    assert end_leftover(tmp_path / "pid") is None
    assert psutil.pid_exists(1)


def test_a_second_recipe_in_a_workspace_says_so(home: Path) -> None:
    with one_recipe_at_a_time("quick-fox", "id-1") as before:
        assert before is None
        with pytest.raises(Psi0Error, match="quick-fox"), one_recipe_at_a_time("lazy-dog", "id-2"):
            pass
        with pytest.raises(Psi0Error, match="quick-fox"):
            check_no_recipe_runs()
    check_no_recipe_runs()


def test_a_killed_recipe_is_known_to_the_next(home: Path) -> None:
    code = (
        "from flows.workspace import one_recipe_at_a_time\n"
        "import time\n"
        "with one_recipe_at_a_time('quick-fox', 'id-1'):\n    print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PSI0_HOME": str(home / "home")}
    run = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "held\n"
    run.kill()
    run.wait()
    with one_recipe_at_a_time("lazy-dog", "id-2") as before:
        assert before == "id-1"


def test_tasks_are_chosen_from_the_parameters() -> None:
    assert choose_tasks(Params(), None) == ["pick_can"]
    assert choose_tasks(Params(), ["pick_can"]) == ["pick_can"]
    with pytest.raises(Psi0Error, match="pick_cam"):
        choose_tasks(Params(), ["pick_cam"])


STAGE = """
import os, pathlib, signal, sys, time
name, out, harm = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path("harm")
out.mkdir(parents=True, exist_ok=True)
(out / "content").write_text(name)
print("made", name, flush=True)
if harm.exists() and harm.read_text() == name + " kill":
    os.kill(os.getpid(), signal.SIGKILL)
if harm.exists() and harm.read_text() == name + " fail":
    sys.exit("psi0: the table has no legs; give it some")
"""


@pytest.fixture
def dvc_workspace(home: Path) -> Path:
    """A DVC repository with three stages in a row, the last one a gate."""
    (home / "stage.py").write_text(STAGE)
    (home / "params.yaml").write_text("prepare: {rate: 10}\ntasks: [pick_can]\n")
    python = sys.executable
    stages = {
        "gate": {
            "matrix": {"task": "${tasks}"},
            "cmd": f"{python} stage.py gate gate/${{item.task}}",
            "deps": ["prepared"],
            "outs": ["gate/${item.task}"],
        },
        "prepare": {
            "cmd": f"{python} stage.py prepare prepared",
            "deps": ["raw"],
            "params": ["prepare"],
            "outs": ["prepared"],
        },
        "record": {"cmd": f"{python} stage.py record raw", "outs": ["raw"], "desc": "Raw episodes"},
        "aside": {"cmd": f"{python} stage.py aside aside", "outs": ["aside"]},
    }
    (home / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=home, check=True, capture_output=True)
    return home


def _stale() -> list[str]:
    return [stage.name for stage in read_dag(["pick_can"]) if stage.stale]


def test_dvc_decides_what_is_stale_and_what_comes_first(dvc_workspace: Path) -> None:
    stages = read_dag(["pick_can"])
    assert [stage.name for stage in stages] == ["record", "prepare", "gate@pick_can"], "aside is not asked for"
    assert [(stage.base, stage.task) for stage in stages][-1] == ("gate", "pick_can")
    assert stages[1].rests_on == {"record"}
    assert _stale() == ["record", "prepare", "gate@pick_can"]
    heard: list[str] = []
    results = {stage.name: repro(stage.name, stage_environment({}), heard.append) for stage in stages}
    assert {result.outcome for result in results.values()} == {"built"}
    assert "made record" in heard and not [line for line in heard if "git add" in line]
    assert last_minutes().keys() == results.keys()
    assert _stale() == []
    (dvc_workspace / "params.yaml").write_text("prepare: {rate: 20}\ntasks: [pick_can]\n")
    assert _stale() == ["prepare"]
    assert repro("prepare", stage_environment({}), heard.append).outcome == "built"
    assert repro("gate@pick_can", stage_environment({}), heard.append).outcome == "up to date", "same bytes below it"
    (dvc_workspace / "params.yaml").write_text("prepare: {rate: 10}\ntasks: [pick_can]\n")
    assert repro("prepare", stage_environment({}), heard.append).outcome == "restored"


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_stage_that_fails_is_told_apart_from_one_that_was_killed(
    dvc_workspace: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    """Whatever the shell: bash becomes the stage's process, dash stays its parent and answers 128 + the signal."""
    monkeypatch.setenv("SHELL", shell)
    (dvc_workspace / "harm").write_text("record fail")
    with pytest.raises(Psi0Error, match="give it some") as error:
        repro("record", stage_environment({}), lambda line: None)
    assert not isinstance(error.value, StageKilledError)
    (dvc_workspace / "harm").write_text("record kill")
    with pytest.raises(StageKilledError, match="signal 9"):
        repro("record", stage_environment({}), lambda line: None)
    assert not pid_file().exists()
    (dvc_workspace / "harm").unlink()
    assert repro("record", stage_environment({}), lambda line: None).outcome == "built"


def test_a_stage_is_visited_when_something_below_it_was_built(dvc_workspace: Path) -> None:
    for stage in read_dag(["pick_can"]):
        repro(stage.name, stage_environment({}), lambda line: None)
    (dvc_workspace / "raw/content").write_text("changed by hand")
    record, prepare, gate = read_dag(["pick_can"])
    assert record.stale
    results = {"record": Result("record", "built", 0.1), "prepare": Result("prepare", "up to date", 0.0)}
    assert may_be_stale(prepare, results)
    assert not may_be_stale(gate, results), "what it rests on came out as before"


def test_a_broken_pipeline_is_explained(dvc_workspace: Path) -> None:
    (dvc_workspace / "dvc.yaml").write_text("stages: {record: {cmd: 1, outs: {}}}")
    with pytest.raises(Psi0Error, match=r"dvc\.yaml"):
        read_dag(["pick_can"])


def test_a_summary_is_kept_and_tells_everything(home: Path) -> None:
    task = TaskLine(
        task="pick_can",
        verdict="refuse",
        sentence="It drops the can.",
        successes=3,
        episodes=10,
        success_rate=0.3,
        low=0.1,
        high=0.6,
        version="psi0-pick_can version 4",
        bundle="no bundle: the verdict is refuse",
        report="gate/pick_can/report.html",
        videos="evaluation/pick_can/videos",
    )
    stages = [
        StageLine(name="egodex", outcome="built", minutes=2.0),
        StageLine(name="robot", outcome="up to date", minutes=1),
    ]
    summary = Summary(
        name="quick-fox",
        stages=stages,
        tasks=[task],
        parts={"recording": 2.0},
        mlflow="http://127.0.0.1:5000",
        prefect="http://127.0.0.1:4200",
    )
    write_summary("id-1", summary)
    assert read_summary("id-1") == summary
    assert read_summary("id-2") is None
    text = render(summary)
    for piece in (
        "1 stages built, 1 up to date",
        "REFUSE",
        "30%",
        "10% to 60%",
        "psi0-pick_can version 4",
        "no bundle",
        "5000",
    ):
        assert piece in text
    for part in BUDGET:
        assert part in text
    assert not summary.passed
    assert sum(BUDGET.values()) < 30


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.children._GROUP_PATIENCE_SECONDS", 0.5)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stubborn = f"import signal, time; {deaf}; print('ready', flush=True); time.sleep(60)"

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_child([sys.executable, "-c", stubborn], os.environ, interrupt, tmp_path / "pid")
    assert not (tmp_path / "pid").exists()
