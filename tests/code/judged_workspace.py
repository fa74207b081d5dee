"""A workspace as the DAG leaves it before the gate: evaluations, films, graphs, training curves, data, lineage."""

import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from psi0 import paths
from psi0.data.quality import Quality, SetAside, write_quality
from psi0.evaluate import plan as planning
from psi0.evaluate.evaluation import summarize
from psi0.evaluate.schemas import Evaluation, Row, write_record
from psi0.evaluate.stage import judge
from psi0.evaluate.stopping import consume
from psi0.evaluate.video import encode_mp4, write_mp4
from psi0.files import sha256_folder, write_json, write_text
from psi0.model.manifest import write_manifest
from psi0.params import Params

TASK = "pick_can"
POLICY = "ab" * 32
POLICY_MADE_FROM = {"demonstrations": "55" * 32, "system1": "44" * 32, "system2": "33" * 32}
PARAMS = Params()
FAILURES = ("not_reached", "not_grasped", "dropped", "fell")
GOOD = {
    "policy": [True, False, *[True] * 8, False, *[True] * 30],
    "blind": [False] * 30,
    "swapped_image": [False] * 13 + [True] + [False] * 16,
    "script": [False] * 10 + [True] * 2 + [False] * 10 + [True] * 2 + [False] * 6,
}
"""Outcomes per arm of a policy that passes; each arm ends where its test decides."""
BAD = {**GOOD, "policy": [False, True, False, False]}
"""Outcomes per arm of a policy that is refused."""


def make_judged(folder: Path, outcomes: dict[str, list[bool]] = GOOD, films: int = 4) -> Path:
    """Fill the folder, which must be the current one, and run the gate's stage there; returns the report."""
    make_models()
    make_data()
    graphs = paths.graphs(TASK)
    write_json(graphs / "parity.json", {"schema_version": 1, "max_abs_error": {"s1_step": 2.1e-7, "actions": 3.4e-7}})
    write_json(graphs / "lineage.json", lineage("3" * 40, **POLICY_MADE_FROM))
    write_manifest(graphs, policy_sha256=POLICY)
    plan = planning.register(PARAMS, TASK)
    write_record(paths.evaluation(TASK) / planning.PLAN_FILE, plan)
    for arm, series in outcomes.items():
        evaluation = make_evaluation(arm, series, plan.sha256, sha256_folder(graphs))
        write_record(paths.evaluation(TASK) / f"{arm}.json", evaluation)
        for row in evaluation.rows[:films]:
            write_mp4(paths.evaluation(TASK) / "videos" / f"{arm}_{row.seed}.mp4", film(row.seed))
    judge(PARAMS, TASK)
    return folder / paths.gate(TASK) / "report.html"


def make_evaluation(arm: str, outcomes: list[bool], plan_sha256: str, graphs_sha256: str) -> Evaluation:
    """An evaluation file as the stage writes it for these outcomes."""
    outcomes = outcomes[: consume(PARAMS, TASK, arm, outcomes).episodes]
    seeds = list(islice(planning.derived_seeds(plan_sha256, POLICY), len(outcomes)))
    rows = [
        Row(
            seed=seed,
            success=success,
            tag="success" if success else FAILURES[seed % len(FAILURES)],
            steps=80 + seed % 40 if success else 200,
            qpos_sha256="ef" * 32,
            pixels_sha256="ef" * 32,
        )
        for seed, success in zip(seeds, outcomes, strict=True)
    ]
    return Evaluation(
        task=TASK,
        arm=arm,
        policy="script" if arm == "script" else "graphs",
        privileged=False,
        plan_sha256=plan_sha256,
        policy_sha256=POLICY,
        graphs_sha256=graphs_sha256,
        delay_steps=0 if arm == "script" else 2,
        seeds="plan",
        summary=summarize(rows, arm == "policy"),
        rows=rows,
        invalid_seeds=[],
        repeated_seeds=seeds[:2],
        differing_seeds=[],
        scenes={str(seed): scene(seed) for seed in seeds},
        details={str(seeds[1]): "joint right_elbow_joint left its limits <by 0.1 rad>"},
    )


def scene(seed: int) -> dict[str, Any]:
    """Initial poses as `pick_can` describes them."""
    draw = np.random.default_rng(seed)
    place = [float(draw.uniform(0.11, 0.21)), float(draw.uniform(-0.25, 0.25)), 0.8]
    x, y, yaw = draw.uniform([-0.60, -0.2, -0.25], [-0.35, 0.2, 0.25])
    return {"key_points": {"can": place}, "robot": {"x": float(x), "y": float(y), "yaw": float(yaw)}}


def film(seed: int, frames: int = 20) -> bytes:
    """A short film in the size of real ones: a disc that wanders over a gradient."""
    rows, columns = np.mgrid[0:192, 0:512]
    pictures = []
    for frame in range(frames):
        x, y = 60 + 12 * frame + seed % 50, 96 + 40 * math.sin(frame / 3)
        picture = np.stack([rows, columns // 2, 255 - rows], axis=-1).astype(np.uint8)
        picture[(rows - y) ** 2 + (columns - x) ** 2 < 400] = (250, 240, 90)
        pictures.append(picture)
    return encode_mp4(pictures, 10)


def make_models() -> None:
    """Metrics, curves and lineage of the three training stages."""
    inputs = {
        paths.SYSTEM2: {"egodex": "11" * 32, "humanoid_everyday": "22" * 32},
        paths.SYSTEM1: {"humanoid_everyday": "22" * 32, "system2": "33" * 32},
        paths.policy(TASK): POLICY_MADE_FROM,
    }
    for folder, data in inputs.items():
        steps = range(10, 401, 10)
        lines = [f"{step},{0.3 + 5 * math.exp(-step / 90):.4f},{0.4 + 5 * math.exp(-step / 80):.4f}" for step in steps]
        write_text(folder / "history.csv", "\n".join(["step,loss,validation_loss", *lines]) + "\n")
        write_json(folder / "metrics.json", {"loss": 0.302, "validation_loss": 0.411, "steps": 400})
        write_json(folder / "lineage.json", lineage("3" * 40, **data))


def make_data() -> None:
    """Quality of the three datasets."""
    for folder, frames in (
        (paths.PREPARED_EGODEX, 9747),
        (paths.PREPARED_HUMANOID_EVERYDAY, 10535),
        (paths.prepared_demonstrations(TASK), 7531),
    ):
        metrics = {"bad_share": 0.0125, "episodes": 79, "frame_rate": 10.0, "frames": frames, "idle_share": 0.0109}
        write_json(folder / "metrics.json", {**metrics, "set_aside": 1, "still_channels": 22})
        reason = "right_elbow_joint lies 0.41 rad outside its limits"
        quality = Quality(
            source_format="teleoperation",
            synthetic=True,
            frame_rate=10,
            frames=frames,
            idle_share=0.0109,
            kept=[],
            set_aside=[SetAside(name="episode_17", reason=reason, category="bad")],
            channels={},
            still_channels=[],
        )
        write_quality(folder, quality)
        write_json(
            folder / "meta" / "psi0.json",
            {"schema_version": 1, "synthetic": True, "source_format": "teleoperation", "source_fingerprint": "66" * 32},
        )


def lineage(commit: str, **data: str) -> dict[str, Any]:
    """A lineage record."""
    return {"schema_version": 1, "git_commit": commit, "dirty": False, "params_sha256": "77" * 32, "data": data}
