"""What a verdict is computed from: evaluation files, the graphs' manifest and their parity report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psi0.errors import Psi0Error
from psi0.evaluate.plan import PLAN_FILE, Plan
from psi0.evaluate.schemas import Evaluation, read_record
from psi0.files import read_json, sha256_file, sha256_files, sha256_json
from psi0.model.manifest import check_manifest
from psi0.params import Params

POLICY_ARM = "policy"
SCRIPT_ARM = "script"
TORCH_ARM = "torch"


@dataclass
class Evidence:
    """What a verdict is computed from; whatever could not be read stands in `problems`."""

    plan: Plan | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    max_abs_error: float | None = None
    policy_sha256: str = ""
    graphs_sha256: str = ""
    problems: list[str] = field(default_factory=list)


def required_arms(params: Params, task: str) -> list[str]:
    """The policy, every control of a task that has a ceiling, and torch where the gate compares with it."""
    return [POLICY_ARM, *params.control_ceilings(task), *([TORCH_ARM] if params.gate.compare_torch else [])]


def gather(
    evaluation_folder: Path,
    graphs_folder: Path,
    params: Params,
    task: str,
    graph_hashes: Mapping[str, str] | None = None,
) -> Evidence:
    """Read every file that a verdict needs; a missing or broken one becomes a problem, not an exception.

    Args:
        evaluation_folder: with the plan and a file per arm.
        graphs_folder: the graphs that were judged.
        params: which arms are needed of the task.
        graph_hashes: SHA-256 of every file of the graphs, where somebody read them already; then only their
            manifest and parity report need to lie in `graphs_folder`.
    """
    evidence = Evidence()
    try:
        evidence.plan = read_record(Plan, evaluation_folder / PLAN_FILE)
        evidence.files[PLAN_FILE] = sha256_file(evaluation_folder / PLAN_FILE)
    except Psi0Error as error:
        evidence.problems.append(str(error))
    for arm in required_arms(params, task):
        file = evaluation_folder / f"{arm}.json"
        try:
            evidence.evaluations[arm] = read_record(Evaluation, file)
            evidence.files[file.name] = sha256_file(file)
        except Psi0Error as error:
            evidence.problems.append(str(error))
    try:
        hashes = sha256_files(graphs_folder) if graph_hashes is None else graph_hashes
        evidence.policy_sha256 = str(check_manifest(graphs_folder, hashes).get("policy_sha256", ""))
        evidence.graphs_sha256 = sha256_json(dict(hashes))
        evidence.max_abs_error = _max_abs_error(graphs_folder / "parity.json")
        evidence.files["parity.json"] = sha256_file(graphs_folder / "parity.json")
        evidence.files["manifest.json"] = sha256_file(graphs_folder / "manifest.json")
    except Psi0Error as error:
        evidence.problems.append(str(error))
    return evidence


def _max_abs_error(file: Path) -> float:
    """The largest of the differences that the export measured, per graph and for whole chunks of actions."""
    errors = read_json(file).get("max_abs_error")
    values = list(errors.values()) if isinstance(errors, dict) else []
    if not values or not all(isinstance(value, int | float) and value >= 0 for value in values):
        raise Psi0Error(f"{file}: max_abs_error must hold a number from 0 up per graph; repeat the export")
    return float(max(values))
