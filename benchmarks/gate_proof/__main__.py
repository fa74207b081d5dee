"""Three policies through the whole path, from export to registry: `python -m benchmarks.gate_proof`.

Type it where `make recipe` has run. In a checkout of its own, with services of its own, it builds and judges an
untrained policy (the same training code, one step per stage), the mean demonstration (`psi0 export
mean-demonstration`), and the policy of this workspace, and writes what became of each to docs/three-policies.md.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.gate_proof.checkout import Checkout
from benchmarks.gate_proof.table import Line, render
from psi0 import paths
from psi0.errors import Psi0Error
from psi0.evaluate.schemas import GateFile, read_record
from psi0.files import write_text

ONE_STEP = {
    "pretrain": {"steps": 1, "humanoid_everyday_steps": 0, "warmup_steps": 0},
    "posttrain": {"steps": 1, "warmup_steps": 0},
    "finetune": {"steps": 1, "warmup_steps": 0},
}
"""Parameters that train nothing: weights stay where their seed put them."""
MEAN = "psi0 export mean-demonstration ${item.task}"
"""What stage `export` runs for the mean demonstration."""


def main() -> None:
    """Judge the three, write the table; exit 1 unless the first two are refused and the third is promoted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", default="pick_can", help="task to judge them on")
    parser.add_argument("--folder", type=Path, default=Path(".psi0/gate-proof"), help="where the checkout lies")
    parser.add_argument("--table", type=Path, default=Path("docs/three-policies.md"), help="file to write")
    arguments = parser.parse_args()
    try:
        lines = judge_all(arguments.task, arguments.folder)
    except Psi0Error as error:
        sys.exit(f"gate_proof: {error}")
    text = render(arguments.task, lines)
    write_text(arguments.table, text)
    print(text)
    right = [line.gate.verdict for line in lines] == ["refuse", "refuse", "pass"] and "champion" in lines[-1].aliases
    sys.exit(0 if right else 1)


def judge_all(task: str, folder: Path) -> list[Line]:
    """What became of each policy. The reports and logs lie in `folder`.

    Raises:
        Psi0Error: no policy was built here, or a run fails; the message says which log tells more.
    """
    if not (paths.graphs(task) / "manifest.json").exists() or not Path("dvc.lock").exists():
        raise Psi0Error(f"{paths.graphs(task)} is missing: `make recipe` builds the policy that this is about")
    checkout = Checkout(folder)
    try:
        checkout.prepare()
        checkout.change_params(ONE_STEP)
        untrained = run("untrained", checkout, task)
        checkout.restore()
        checkout.replace_export(MEAN, [paths.prepared_demonstrations("${item.task}").as_posix()])
        mean = run("mean demonstration", checkout, task)
        checkout.restore()
        trained = run("trained", checkout, task)
    finally:
        checkout.end()
    return [untrained, mean, trained]


def run(name: str, checkout: Checkout, task: str) -> Line:
    """Build, judge and register what the checkout describes now, through the recipe's own flow."""
    summary = checkout.recipe(name, task)
    told = next(line for line in summary.tasks if line.task == task)
    gate = read_record(GateFile, checkout.folder / paths.gate(task) / "gate.json")
    return Line(name, gate, told.version, tuple(told.aliases), summary.minutes)


if __name__ == "__main__":
    main()
