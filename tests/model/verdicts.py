"""Evidence as the stages write it, built from outcomes: what tests of the gate judge."""

from dataclasses import replace
from itertools import islice
from typing import Any

from psi0.evaluate import plan as planning
from psi0.evaluate.evaluation import summarize
from psi0.evaluate.evidence import Evidence
from psi0.evaluate.gate import judge_evidence
from psi0.evaluate.schemas import Evaluation, GateFile, Row
from psi0.params import Params, parse_params

PARAMS = parse_params(
    {
        "evaluation": {"control_episodes": 20},
        "gate": {"control_ceilings": {"blind": 0.25, "swapped_image": 0.35, "script": 0.35}},
    },
    "the plan of these tests",
)
TASK = "pick_can"
POLICY = "ab" * 32
GRAPHS = "cd" * 32
FAILURE_TAGS = ("not_reached", "not_grasped", "dropped", "fell")


KINDS = {"script": "script", "torch": "weights"}


def arm(name: str, outcomes: list[bool], graphs: str = GRAPHS, params: Params = PARAMS, **changes: Any) -> Evaluation:
    """An evaluation file as the stage would write it for these outcomes."""
    plan = planning.register(params, TASK).sha256
    seeds = list(islice(planning.derived_seeds(plan, POLICY), len(outcomes)))
    rows = [
        Row(
            seed=seed,
            success=success,
            tag="success" if success else FAILURE_TAGS[seed % 4],
            steps=80 if success else 200,
            qpos_sha256="ef" * 32,
            pixels_sha256="ef" * 32,
        )
        for seed, success in zip(seeds, outcomes, strict=True)
    ]
    content = Evaluation(
        task=TASK,
        arm=name,
        policy=KINDS.get(name, "graphs"),
        privileged=False,
        plan_sha256=plan,
        policy_sha256=POLICY,
        graphs_sha256=graphs,
        delay_steps=0 if name == "script" else 2,
        seeds="plan",
        summary=summarize(rows, descriptive=True),
        rows=rows,
        invalid_seeds=[],
        repeated_seeds=seeds[:2],
        differing_seeds=[],
        scenes={
            str(seed): {
                "robot": {"x": -0.4 - (seed % 17) / 100, "y": (seed % 31) / 100 - 0.15, "yaw": (seed % 41) / 100 - 0.2},
                "key_points": {"can": [0.11 + (seed % 11) / 100, (seed % 51) / 100 - 0.25, 0.8]},
            }
            for seed in seeds
        },
        details={},
    )
    return content.model_copy(update=changes)


def good(graphs: str = GRAPHS, params: Params = PARAMS) -> Evidence:
    """Evidence that passes: 20 of 21, controls that fail and stop as soon as that is clear."""
    outcomes = {
        "policy": [True, False, *[True] * 19],
        "blind": [False] * 19,
        "swapped_image": [False] * 8 + [True] + [False] * 11,
        "script": [False] * 13,
    }
    arms = {name: arm(name, series, graphs, params) for name, series in outcomes.items()}
    return Evidence(planning.register(params, TASK), arms, {}, 3e-7, POLICY, graphs)


def verdict(evidence: Evidence, params: Params = PARAMS) -> GateFile:
    """The verdict on evidence."""
    return judge_evidence(evidence, params, TASK)


def with_arm(evaluation: Evaluation, evidence: Evidence | None = None) -> Evidence:
    """Good evidence with one arm replaced or added."""
    evidence = evidence or good()
    return replace(evidence, evaluations={**evidence.evaluations, evaluation.arm: evaluation})
