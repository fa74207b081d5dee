"""A workspace as the whole DAG leaves it: data, weights, graphs, evaluations and the real gate's verdict."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import yaml
from mlflow import MlflowClient

from psi0 import paths
from psi0.evaluate import plan as planning
from psi0.evaluate.evaluation import summarize
from psi0.evaluate.evidence import Evidence, gather
from psi0.evaluate.gate import judge_evidence
from psi0.evaluate.schemas import Evaluation, Row, write_record
from psi0.evaluate.validity import check_evaluation
from psi0.files import sha256_folder, write_bytes, write_json
from psi0.model.manifest import write_manifest
from psi0.params import Params, parse_params
from psi0.registry.registration import register_policy
from psi0.registry.runs import begin_recipe, record_stage
from psi0.registry.stage_record import read_lock, read_stage
from psi0.registry.versions import Version

TASK = "pick_can"
PARAMS = parse_params({"publish": {"engines": []}}, "the parameters of these tests")
GOOD: Mapping[str, Sequence[bool]] = {
    "policy": [True] * 40,
    "blind": [False] * 30,
    "swapped_image": [False] * 30,
    "script": [False] * 30,
}
"""Outcomes per arm of a policy that passes; each test takes as many as it needs."""
BAD = {**GOOD, "policy": [False] * 40}
"""Outcomes per arm of a policy that is refused."""
_DATASETS = {
    "egodex": paths.PREPARED_EGODEX,
    "humanoid_everyday": paths.PREPARED_HUMANOID_EVERYDAY,
    "demonstrations": paths.prepared_demonstrations(TASK),
}
_DAG = (
    ("robot", [], paths.ROBOT, ["robot"]),
    ("egodex", [paths.ROBOT], paths.RAW_EGODEX, ["egodex"]),
    ("humanoid_everyday", [paths.ROBOT], paths.RAW_HUMANOID_EVERYDAY, ["humanoid_everyday"]),
    (f"demonstrations@{TASK}", [paths.ROBOT], paths.raw_demonstrations(TASK), ["demonstrations"]),
    ("prepare_egodex", [paths.RAW_EGODEX], paths.PREPARED_EGODEX, ["prepare"]),
    ("prepare_humanoid_everyday", [paths.RAW_HUMANOID_EVERYDAY], paths.PREPARED_HUMANOID_EVERYDAY, ["prepare"]),
    (f"prepare_demonstrations@{TASK}", [paths.raw_demonstrations(TASK)], _DATASETS["demonstrations"], ["prepare"]),
    ("pretrain", [paths.PREPARED_EGODEX, paths.PREPARED_HUMANOID_EVERYDAY], paths.SYSTEM2, ["pretrain"]),
    (
        "posttrain",
        [paths.SYSTEM2, paths.PREPARED_EGODEX, paths.PREPARED_HUMANOID_EVERYDAY],
        paths.SYSTEM1,
        ["posttrain"],
    ),
    (
        f"finetune@{TASK}",
        [paths.SYSTEM2, paths.SYSTEM1, _DATASETS["demonstrations"]],
        paths.policy(TASK),
        ["finetune"],
    ),
    (f"export@{TASK}", [paths.policy(TASK)], paths.graphs(TASK), ["export"]),
    (f"evaluate@{TASK}", [paths.graphs(TASK)], paths.evaluation(TASK), ["evaluation", "gate"]),
    (f"gate@{TASK}", [paths.evaluation(TASK), paths.graphs(TASK)], paths.gate(TASK), ["gate"]),
)


def make_whole(
    folder: Path,
    policy: str = "policy",
    outcomes: Mapping[str, Sequence[bool]] = GOOD,
    params: Params = PARAMS,
    weights: str = "weights",
    graph_bytes: int = 2000,
) -> Path:
    """Make the workspace.

    Args:
        folder: where.
        policy: any word; another one is another policy.
        outcomes: of each arm.
        params: its `params.yaml`.
        weights: any word; another one is other System-2 and System-1 weights.
        graph_bytes: size of the one graph.
    """
    _data(folder)
    for path, name in ((paths.SYSTEM2, "system2"), (paths.SYSTEM1, "system1")):
        write_bytes(folder / path / f"{name}.safetensors", f"{name} {weights}".encode() * 20)
        write_json(folder / path / f"{name}.json", {"schema_version": 1, "hidden_size": 64})
        _training_records(folder / path)
    _training_records(folder / paths.policy(TASK))
    write_bytes(folder / paths.policy(TASK) / "system1.safetensors", policy.encode())
    _judged(folder, hashlib.sha256(policy.encode()).hexdigest(), outcomes, params, graph_bytes)
    (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    write_lock(folder, params)
    return folder


def write_lock(folder: Path, params: Params = PARAMS) -> None:
    """`dvc.lock` over what lies in the workspace now."""
    values = params.model_dump(mode="json")

    def pinned(path: Path) -> dict[str, object]:
        files = [file for file in (folder / path).rglob("*") if file.is_file()]
        digest = hashlib.md5(sha256_folder(folder / path).encode()).hexdigest()
        size = sum(file.stat().st_size for file in files)
        return {"path": path.as_posix(), "hash": "md5", "md5": f"{digest}.dir", "size": size, "nfiles": len(files)}

    stages = {
        name: {
            "cmd": f"psi0 stage {name}",
            "deps": [{"path": "psi0/sim", "md5": "5" * 32}, *(pinned(one) for one in sources)],
            "params": {"params.yaml": {block: values[block] for block in blocks}},
            "outs": [pinned(output)],
        }
        for name, sources, output, blocks in _DAG
    }
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def register(
    client: MlflowClient, workspace: Path, latency: Mapping[str, object] = MappingProxyType({"schema_version": 1})
) -> Version:
    """Record the stages of a workspace and register its policy, as the recipe does."""
    parent = begin_recipe(client, "recipe")
    for name, entry in read_lock(workspace).items():
        record_stage(client, read_stage(name, entry, workspace), parent)
    return register_policy(
        client, TASK, workspace, add=lambda evidence: write_json(evidence / "latency.json", dict(latency))
    )


def _data(folder: Path) -> None:
    write_json(folder / paths.ROBOT / "limits.json", {"schema_version": 1})
    for raw in (paths.RAW_EGODEX, paths.RAW_HUMANOID_EVERYDAY, paths.raw_demonstrations(TASK)):
        write_bytes(folder / raw / "episode_0" / "data", raw.as_posix().encode())
    for name, path in _DATASETS.items():
        kept = {"frames": 100, "frame_rate": 10.0, "gaps": 0, "largest_gap": 0.1, "idle_share": 0.0, "notes": {}}
        bad = {"name": "episode_17", "reason": "right_elbow_joint lies 0.41 rad outside its limits", "category": "bad"}
        quality = {
            "schema_version": 1,
            "source_format": "egodex" if name == "egodex" else "teleoperation",
            "synthetic": True,
            "frame_rate": 10.0,
            "frames": 7900,
            "idle_share": 0.01,
            "kept": [{**kept, "name": f"episode_{number}", "episode_index": number} for number in range(79)],
            "set_aside": [bad] if name == "demonstrations" else [],
            "channels": {},
            "still_channels": [],
        }
        write_json(folder / path / "quality.json", quality)
        identity = {"schema_version": 1, "redistributable": name != "egodex", "source_fingerprint": "66" * 32}
        write_json(folder / path / "meta" / "psi0.json", identity)


def _training_records(folder: Path) -> None:
    write_json(folder / "metrics.json", {"steps": 400, "training_loss": 0.302, "validation_loss": 0.411})
    (folder / "history.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')


def _judged(
    folder: Path, policy: str, outcomes: Mapping[str, Sequence[bool]], params: Params, graph_bytes: int
) -> None:
    graphs, evaluation, gate = (folder / of(TASK) for of in (paths.graphs, paths.evaluation, paths.gate))
    write_bytes(graphs / "s1_step.onnx", (policy.encode() * (graph_bytes // 64 + 1))[:graph_bytes])
    write_json(graphs / "parity.json", {"schema_version": 1, "max_abs_error": {"actions": 1e-6}})
    write_manifest(graphs, policy_sha256=policy)
    plan = planning.register(params, TASK)
    write_record(evaluation / planning.PLAN_FILE, plan)
    for arm, series in outcomes.items():
        write_record(evaluation / f"{arm}.json", _planned(arm, series, plan, policy, graphs, params))
    write_bytes(evaluation / "videos" / "policy_700000.mp4", b"film")
    verdict = judge_evidence(gather(evaluation, graphs, params, TASK), params, TASK)
    write_record(gate / "gate.json", verdict)
    (gate / "report.html").write_text("<h1>report</h1>")


def _planned(
    arm: str, outcomes: Sequence[bool], plan: planning.Plan, policy: str, graphs: Path, params: Params
) -> Evaluation:
    """The longest beginning of the outcomes that the plan takes: a test may decide before their end."""
    judged = Evidence(policy_sha256=policy, graphs_sha256=sha256_folder(graphs))
    seeds = list(islice(planning.derived_seeds(plan.sha256, policy), len(outcomes)))
    for length in range(len(outcomes), 0, -1):
        evaluation = _evaluation(arm, outcomes[:length], seeds[:length], plan, judged)
        if not check_evaluation(evaluation, arm, judged, params, TASK, plan.sha256):
            return evaluation
    raise AssertionError(f"no beginning of the outcomes of {arm} fits the plan")


def _evaluation(
    arm: str, outcomes: Sequence[bool], seeds: list[int], plan: planning.Plan, judged: Evidence
) -> Evaluation:
    rows = [
        Row(seed=seed, success=success, tag="", steps=80, qpos_sha256="ef" * 32, pixels_sha256="ef" * 32)
        for seed, success in zip(seeds, outcomes, strict=True)
    ]
    return Evaluation(
        task=TASK,
        arm=arm,
        policy="script" if arm == "script" else "graphs",
        privileged=False,
        plan_sha256=plan.sha256,
        policy_sha256=judged.policy_sha256,
        graphs_sha256=judged.graphs_sha256,
        delay_steps=0 if arm == "script" else 2,
        seeds="plan",
        summary=summarize(rows, arm == "policy"),
        rows=rows,
        invalid_seeds=[],
        repeated_seeds=[],
        differing_seeds=[],
        scenes={},
        details={},
    )
