"""Versions as the recipe registers them, judged by the real gate on episodes made by hand: nothing is trained."""

import uuid
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import yaml
from mlflow import MlflowClient

from psi0 import paths
from psi0.evaluate import plan as planning
from psi0.evaluate.evaluation import summarize
from psi0.evaluate.evidence import gather
from psi0.evaluate.gate import judge_evidence
from psi0.evaluate.schemas import Evaluation, Row, read_record, write_record
from psi0.evaluate.stopping import consume
from psi0.files import sha256_folder, write_json
from psi0.model.manifest import write_manifest
from psi0.params import Params, parse_params
from psi0.registry.compare import side
from psi0.registry.comparison import Comparison, compare, fresh_seeds
from psi0.registry.registration import register_policy
from psi0.registry.rule import fetched
from psi0.registry.runs import begin_recipe, record_stage
from psi0.registry.stage_record import read_lock, read_stage
from psi0.registry.versions import Version

TASK = "pick_can"
GOOD = {
    "policy": [True] * 100,
    "blind": [False] * 30,
    "swapped_image": [False] * 30,
    "script": [False] * 30,
}
"""Outcomes per arm of a policy that passes; each arm ends where its test decides."""
BAD = {**GOOD, "policy": [False, False]}
"""Outcomes per arm of a policy that is refused."""
LATENCY = {"schema_version": 1, "p50_ms": 9.0, "p95_ms": 11.0, "calls": 20, "what": "a chunk", "machine": "this one"}
PARAMS = parse_params({"publish": {"engines": []}, "promote": {"episodes": 60}}, "the parameters of these tests")


def register_version(
    client: MlflowClient,
    folder: Path,
    outcomes: dict[str, list[bool]] = GOOD,
    params: Params = PARAMS,
    change: Callable[[Path], None] | None = None,
) -> Version:
    """Judge and register a policy of its own.

    Args:
        folder: where its workspace is made.
        outcomes: of each arm.
        change: called with the workspace before it is registered.
    """
    workspace = make_workspace(folder / uuid.uuid4().hex, outcomes, params)
    if change is not None:
        change(workspace)
    parent = begin_recipe(client, "recipe")
    for name, entry in read_lock(workspace).items():
        record_stage(client, read_stage(name, entry, workspace), parent)
    return register_policy(client, TASK, workspace, add=lambda evidence: write_json(evidence / "latency.json", LATENCY))


def make_workspace(folder: Path, outcomes: dict[str, list[bool]], params: Params) -> Path:
    """A workspace in which a policy of its own was judged."""
    policy = (uuid.uuid4().hex * 2)[:64]
    graphs, evaluation, gate = (folder / of(TASK) for of in (paths.graphs, paths.evaluation, paths.gate))
    graphs.mkdir(parents=True)
    (graphs / "s1_step.onnx").write_bytes(policy.encode() * 50)
    write_json(graphs / "parity.json", {"schema_version": 1, "max_abs_error": {"actions": 1e-6}})
    write_manifest(graphs, policy_sha256=policy)
    plan = planning.register(params, TASK)
    write_record(evaluation / planning.PLAN_FILE, plan)
    for arm, whole in outcomes.items():
        series = whole[: consume(params, TASK, arm, whole).episodes]
        seeds = islice(planning.derived_seeds(plan.sha256, policy), len(series))
        write_record(evaluation / f"{arm}.json", make_evaluation(arm, rows(series, seeds), plan, policy, graphs))
    verdict = judge_evidence(gather(evaluation, graphs, params, TASK), params, TASK)
    write_record(gate / "gate.json", verdict)
    (gate / "report.html").write_text("<h1>report</h1>")
    write_json(folder / paths.ROBOT / "limits.json", {"schema_version": 1})
    (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    entry = {"cmd": f"psi0 stage gate --task {TASK}", "deps": [], "outs": [{"path": f"gate/{TASK}", "md5": policy}]}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {f"gate@{TASK}": entry}}))
    return folder


def make_evaluation(arm: str, played: list[Row], plan: planning.Plan, policy: str, graphs: Path) -> Evaluation:
    """An evaluation file as the stage writes it."""
    return Evaluation(
        task=TASK,
        arm=arm,
        policy="script" if arm == "script" else "graphs",
        privileged=False,
        plan_sha256=plan.sha256,
        policy_sha256=policy,
        graphs_sha256=sha256_folder(graphs),
        delay_steps=0 if arm == "script" else 2,
        seeds="plan",
        summary=summarize(played, arm == "policy"),
        rows=played,
        invalid_seeds=[],
        repeated_seeds=[],
        differing_seeds=[],
        scenes={},
        details={},
    )


def rows(outcomes: Sequence[bool], seeds: islice) -> list[Row]:
    """Episodes with these outcomes."""
    return [
        Row(seed=seed, success=success, tag="", steps=80, qpos_sha256="ef" * 32, pixels_sha256="ef" * 32)
        for seed, success in zip(seeds, outcomes, strict=True)
    ]


def played_as(losses: int, wins: int = 0) -> Callable[[MlflowClient, Version, Version], Comparison]:
    """A comparison that came out with so many champion-only and candidate-only seeds."""

    def play(client: MlflowClient, candidate: Version, champion: Version) -> Comparison:
        with fetched(client, candidate) as stored:
            assert stored is not None
            judged = read_record(Evaluation, stored.folder / "evaluation" / "policy.json")
        episodes = PARAMS.promote.episodes
        seeds = list(islice(fresh_seeds(judged), episodes))
        new = [False] * losses + [True] * (episodes - losses)
        old = [True] * losses + [False] * wins + [True] * (episodes - losses - wins)
        both = (rows(new, islice(seeds, episodes)), rows(old, islice(seeds, episodes)))
        return compare(side(candidate), side(champion), judged, both, [], PARAMS.promote)

    return play
