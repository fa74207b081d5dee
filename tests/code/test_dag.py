"""dvc.yaml: the stages exist, dry-run at paper scale, and one parameter re-runs exactly what depends on it.

The re-run test replaces each stage's command by a cheap one that writes the parameters it declared; dependencies,
parameters and outputs stay those of dvc.yaml, and the real DVC decides.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from import_closure import reached

from psi0.params import Params, Prepare
from psi0.stages import _STAGES, _TASK_STAGES

pytestmark = pytest.mark.usefixtures("in_repository")

CHAIN_FROM_FINETUNE = {"finetune@pick_can", "export@pick_can", "evaluate@pick_can", "gate@pick_can"}
FAKE_STAGE = """
import hashlib, json, pathlib, sys, yaml
stage, out = sys.argv[1], pathlib.Path(sys.argv[2])
lines = pathlib.Path("ran.txt"); lines.open("a").write(stage + "\\n")
inputs = {}
for dep in sys.argv[3:]:
    path = pathlib.Path(dep)
    found = path.rglob("*") if path.is_dir() else [path]
    files = sorted(f for f in found if f.is_file() and "__pycache__" not in f.parts)
    inputs[dep] = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
out.mkdir(parents=True, exist_ok=True)
declared = yaml.safe_load(open("declared.yaml"))[stage]
content = yaml.safe_load(open("params.yaml"))
def pick(key):
    value = content
    for part in key.split("."): value = value[part]
    return value
for name in ("metrics.json", "quality.json"):
    (out / name).write_text(json.dumps({"inputs": inputs, "params": {k: pick(k) for k in declared}}))
(out / "history.csv").write_text("step,loss,validation_loss\\n0,3,4\\n1,1,2\\n")
"""


PLUMBING = (
    *("cluster", "connection", "errors", "explain", "files", "lineage", "machine", "params", "paths", "progress"),
    *("seeds", "settings", "storage"),
)
"""Modules of psi0 that compute nothing of a result: how files are written, found and checked, and what is said."""
OPENED = """
import sys
opened = set()
sys.addaudithook(lambda event, arguments: event == "open" and opened.add(str(arguments[0])))
from psi0.params import Params
from psi0.stages import run_stage
run_stage("gate", "pick_can", Params())
print(*sorted(name for name in opened if name.startswith(("data/", "models/", "evaluation/"))), sep="\\n")
"""


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml as they run for pick_can, by name."""
    text = Path("dvc.yaml").read_text().replace("${item.task}", "pick_can")
    return yaml.safe_load(text)["stages"]


def dvc(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(["dvc", *arguments], cwd=folder, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture
def cheap_dag(checkout: Callable[[str], Path]) -> Path:
    """A checkout whose stages cost nothing and depend on what dvc.yaml says."""
    folder = checkout("dag")
    dag = yaml.safe_load((folder / "dvc.yaml").read_text())
    declared = {}
    for name, stage in dag["stages"].items():
        instance = f"{name}@pick_can" if "matrix" in stage else name
        declared[instance] = stage.get("params", [])
        full = f"{name}@${{item.task}}" if "matrix" in stage else name
        stage["cmd"] = f"python fake_stage.py {full} {stage['outs'][0]} {' '.join(stage['deps'])}"
    (folder / "dvc.yaml").write_text(yaml.safe_dump(dag, sort_keys=False))
    (folder / "declared.yaml").write_text(yaml.safe_dump(declared))
    (folder / "fake_stage.py").write_text(FAKE_STAGE)
    dvc(folder, "repro", "-q")
    return folder


def change(folder: Path, changes: dict[str, str]) -> None:
    """Replace values in params.yaml, block by block."""
    text = (folder / "params.yaml").read_text()
    for dotted, value in changes.items():
        block, name = dotted.split(".")
        text, count = re.subn(rf"(?ms)^({block}:.*?^  {name}: )[^#\n]*", rf"\g<1>{value} ", text, count=1)
        assert count == 1, dotted
    (folder / "params.yaml").write_text(text)


def stale(folder: Path, changes: dict[str, str]) -> set[str]:
    """The stages that DVC calls changed after `changes`; what only follows from those is not among them."""
    change(folder, changes)
    return set(json.loads(dvc(folder, "status", "--json")))


def rerun(folder: Path, changes: dict[str, str]) -> set[str]:
    """The stages that `dvc repro` runs after `changes`."""
    change(folder, changes)
    (folder / "ran.txt").unlink(missing_ok=True)
    dvc(folder, "repro", "-q")
    file = folder / "ran.txt"
    return set(file.read_text().split()) if file.exists() else set()


def test_one_parameter_reruns_exactly_what_depends_on_it(cheap_dag: Path) -> None:
    assert rerun(cheap_dag, {}) == set()
    assert rerun(cheap_dag, {"gate.alpha": "0.04"}) == {"evaluate@pick_can", "gate@pick_can"}
    assert rerun(cheap_dag, {"finetune.steps": "77"}) == CHAIN_FROM_FINETUNE
    assert rerun(cheap_dag, {"promote.margin": "0.01", "publish.engines": "[]"}) == set()
    assert rerun(cheap_dag, {"system1.guidance": "5.0"}) == CHAIN_FROM_FINETUNE
    assert rerun(cheap_dag, {"system1.attention": "cross"}) == {"posttrain"} | CHAIN_FROM_FINETUNE
    assert rerun(cheap_dag, {"posttrain.steps": "77"}) == {"posttrain"} | CHAIN_FROM_FINETUNE
    assert (
        rerun(cheap_dag, {"demonstrations.noise": "0.5"})
        == {
            "demonstrations@pick_can",
            "prepare_demonstrations@pick_can",
        }
        | CHAIN_FROM_FINETUNE
    )
    after_humanoid_everyday = {"prepare_humanoid_everyday", "pretrain", "posttrain"} | CHAIN_FROM_FINETUNE
    assert rerun(cheap_dag, {"humanoid_everyday.seed": "9"}) == {"humanoid_everyday"} | after_humanoid_everyday
    ends = {f"{name}@pick_can" for name in ("finetune", "evaluate", "gate")}
    assert stale(cheap_dag, {"control.execute": "4"}) == ends
    usual = str(Params().control.execute)
    assert stale(cheap_dag, {"control.execute": usual, "control.chunk": "12"}) == ends
    prepared = {"prepare_humanoid_everyday", "prepare_demonstrations@pick_can"}
    assert stale(cheap_dag, {"control.chunk": "16", "prepare.limit_tolerance": "0.3"}) == prepared


def test_a_parameter_that_went_back_is_taken_from_the_cache(cheap_dag: Path) -> None:
    assert rerun(cheap_dag, {"finetune.steps": "77"}) == CHAIN_FROM_FINETUNE
    assert rerun(cheap_dag, {"finetune.steps": str(Params().finetune.steps)}) == set()


def test_the_paper_dag_dry_runs(checkout: Callable[[str], Path]) -> None:
    folder = checkout("paper")
    subprocess.run(["psi0", "params", "use", "paper"], cwd=folder, check=True, capture_output=True)
    # DVC 3.67 hashes what a stage depends on even in a dry run, and stops where the folder does not exist yet.
    for stage in stages().values():
        for output in stage["outs"]:
            (folder / output).mkdir(parents=True)
    printed = dvc(folder, "repro", "--dry").splitlines()
    for name in [*_STAGES, *(f"{name} --task pick_can" for name in _TASK_STAGES)]:
        assert printed.count(f"> psi0 stage {name}") == 1


def test_every_stage_of_the_dag_has_code_and_the_reverse() -> None:
    dag = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    assert set(dag) == set(_STAGES) | set(_TASK_STAGES)
    assert {name for name, stage in dag.items() if "matrix" in stage} == set(_TASK_STAGES)


@pytest.mark.parametrize("name", [*_STAGES, *_TASK_STAGES])
def test_a_stage_depends_on_the_code_it_runs(name: str) -> None:
    declared = [Path(dep) for dep in stages()[name]["deps"] if dep.startswith("psi0/")]
    module = (_STAGES | _TASK_STAGES)[name].split(":")[0]
    plumbing = {"__init__", *PLUMBING}
    code = {file for file in reached(module) if file.parts[1].removesuffix(".py") not in plumbing}
    assert not {str(file) for file in code if not any(file.is_relative_to(dep) for dep in declared)}
    unused = {str(dep) for dep in declared if not any(file.is_relative_to(dep) for file in code)}
    assert not unused, "declared, but nothing in it is reached"


def test_the_closure_of_imports_follows_functions_and_misses_annotations(tmp_path: Path) -> None:
    (tmp_path / "psi0/room").mkdir(parents=True)
    for name, text in {
        "psi0/__init__.py": "",
        "psi0/room/__init__.py": "",
        "psi0/room/entry.py": "def work():\n    from psi0.room import inner\n",
        "psi0/room/inner.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import psi0.unused\n",
        "psi0/unused.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    rooms = {"psi0/__init__.py", "psi0/room/__init__.py", "psi0/room/entry.py", "psi0/room/inner.py"}
    assert {str(file) for file in reached("psi0.room.entry", tmp_path)} == rooms


def test_the_gate_depends_on_the_data_it_reads(tmp_path: Path) -> None:
    declared = stages()["gate"]["deps"]
    for dep in declared:
        if dep.startswith(("data/", "models/", "evaluation/")):
            (tmp_path / dep / "meta").mkdir(parents=True)
            for file in ("metrics.json", "lineage.json", "meta/psi0.json"):
                (tmp_path / dep / file).write_text("{}")
    answer = subprocess.run([sys.executable, "-c", OPENED], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    read = [line for line in answer.stdout.splitlines() if line.startswith(("data/", "models/", "evaluation/"))]
    assert "models/system2/metrics.json" in read
    assert not [file for file in read if not file.startswith(tuple(f"{dep}/" for dep in declared))]


def test_every_parameter_belongs_to_a_stage_or_a_flow() -> None:
    tracked = {key for stage in stages().values() for key in stage.get("params", [])}
    flows = {"profile", "tasks", "promote", "publish", "baselines"}
    assert set(Params.model_fields) == {key.split(".")[0] for key in tracked} | flows
    for name, field in Params.model_fields.items():
        if name in tracked | flows:
            continue
        named = {key.removeprefix(f"{name}.") for key in tracked if key.startswith(f"{name}.")}
        assert named == set(getattr(field.annotation, "model_fields", {})), f"no stage depends on some key of {name}"


def test_egodex_is_prepared_by_all_but_the_limits_of_joints() -> None:
    named = {key.removeprefix("prepare.") for key in stages()["prepare_egodex"]["params"] if "prepare" in key}
    assert named == set(Prepare.model_fields) - {"limit_tolerance"}


def test_a_stage_or_task_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for arguments, words in (
        (["nope"], "stage 'nope' does not exist"),
        (["finetune"], "needs --task"),
        (["finetune", "--task", "fly"], "task 'fly' does not exist"),
        (["robot", "--task", "pick_can"], "takes no --task"),
    ):
        answer = subprocess.run(["psi0", "stage", *arguments], capture_output=True, text=True)
        assert answer.returncode == 1
        assert words in answer.stderr
        assert "Traceback" not in answer.stderr


def test_experiments_metrics_and_plots(cheap_dag: Path) -> None:
    """`dvc exp run -S`, `dvc metrics diff` and `dvc plots show` work, and what they name is made by stages."""
    identity = ["-c", "user.name=psi0", "-c", "user.email=psi0@localhost"]
    (cheap_dag / "ran.txt").unlink()
    subprocess.run(["git", "add", "-A"], cwd=cheap_dag, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "built"], cwd=cheap_dag, check=True)
    before = Params().finetune.steps
    dvc(cheap_dag, "exp", "run", "-S", "finetune.steps=77")
    assert set((cheap_dag / "ran.txt").read_text().split()) == CHAIN_FROM_FINETUNE
    assert yaml.safe_load((cheap_dag / "params.yaml").read_text())["finetune"]["steps"] == 77
    changed = json.loads(dvc(cheap_dag, "metrics", "diff", "--json"))["models/policy/pick_can/metrics.json"]
    assert {"old": before, "new": 77, "diff": 77 - before} in changed.values()
    dvc(cheap_dag, "plots", "show", "-o", "drawn")
    page = (cheap_dag / "drawn/index.html").read_text()
    titles = ["Stage 1, next-token loss", "Stage 2, flow loss", "Stage 3, flow loss (pick_can)"]
    assert all(title in page for title in titles) and "validation_loss" in page
