"""From a version's evidence to a deployment bundle: the same evidence gives the same bytes, compiled engines aside.

manifest.json  SHA256SUMS  signature.json
graphs/        ONNX graphs, tokenizer, normalisation, golden fixtures, parity.json: as exported and judged
engines/       per target: compiled engine and its record, or the reason why there is none
limits.json  joint_map.json  control.json  latency.json
evidence/      evaluation files, gate.json, report.html
params.yaml  dvc.lock
"""

import shutil
from pathlib import Path
from typing import Any

from psi0.deploy.manifest import (
    GRAPHS,
    MANIFEST,
    Engine,
    Evidence,
    GivenSystem0,
    Manifest,
    Source,
    System0,
    write_sums,
)
from psi0.deploy.signature import sign
from psi0.errors import Psi0Error
from psi0.evaluate.schemas import GateFile, read_record
from psi0.files import publish_folder, sha256_file, sha256_folder, write_json
from psi0.model.manifest import check_manifest
from psi0.params import WALKING, Params, load_params
from psi0.robot.assets import system0_identity
from psi0.robot.layout import ACTION_NAMES, ALL_JOINTS, LOWER_BODY_COMMANDS, SIDES, STATE_NAMES, ActionPart
from psi0.robot.system0_folder import RECORD_FILE, read_system0

_G1_MOTORS = tuple(joint for joint in ALL_JOINTS if "hand" not in joint)
"""Unitree's motor order of the 29-motor G1: legs 0-11, waist 12-14, left arm 15-21, right arm 22-28 (unitree_sdk2)."""


def build_bundle(evidence: Path, task: str, source: dict[str, str], target: Path, override: str = "") -> str:
    """Build and sign the bundle of a version.

    Args:
        evidence: folder with the version's evidence as registered: `graphs/`, `evaluation/`, `gate/`, `limits.json`,
            `latency.json`, `params.yaml`, `dvc.lock`, and `system0.json` where System-0 is not the walking policy.
        task: the policy's task.
        source: `model`, `version`, `git_commit`, `git_dirty` of the version.
        target: folder to make (replaced when it exists).
        override: who deploys it against the rule of promotion, and why; without it only what passed is published.

    Returns:
        The bundle's name, the SHA-256 of its `SHA256SUMS`.

    Raises:
        Psi0Error: something is missing or altered, the verdict is not `pass`, or the gate judged other graphs.
    """
    graphs = evidence / GRAPHS
    policy_sha256 = str(check_manifest(graphs)["policy_sha256"])
    gate = read_record(GateFile, evidence / "gate" / "gate.json")
    if gate.verdict != "pass" and not override:
        raise Psi0Error(f"{task}: the gate's verdict is {gate.verdict!r}; only what passed is published")
    graphs_sha256 = sha256_folder(graphs)
    if gate.policy_sha256 != policy_sha256 or (gate.graphs_sha256 and gate.graphs_sha256 != graphs_sha256):
        raise Psi0Error(f"{graphs}: these are not the graphs that the gate judged; register the version anew")
    params = load_params(evidence / "params.yaml")
    with publish_folder(target) as bundle:
        shutil.copytree(graphs, bundle / GRAPHS)
        engines = _build_engines(params, bundle)
        files = _copy_files(evidence, bundle)
        write_json(bundle / "joint_map.json", joint_map())
        write_json(bundle / "control.json", control(params))
        onnx = {f"{GRAPHS}/{path.name}": sha256_file(path) for path in sorted((bundle / GRAPHS).glob("*.onnx"))}
        manifest = Manifest(
            task=task,
            profile=params.profile,
            source=Source(
                model=source["model"],
                version=source["version"],
                git_commit=source["git_commit"],
                git_dirty=source["git_dirty"] == "true",
                policy_sha256=policy_sha256,
                graphs_sha256=graphs_sha256,
                plan_sha256=gate.plan_sha256,
            ),
            system0=_system0(evidence, params),
            graphs=onnx,
            engines=engines,
            files={**files, "joint_map": "joint_map.json", "control": "control.json"},
            evidence=Evidence(
                verdict=gate.verdict,
                sentence=gate.sentence,
                episodes=gate.floor.episodes if gate.floor else 0,
                successes=gate.floor.successes if gate.floor else 0,
                override=override,
            ),
        )
        write_json(bundle / MANIFEST, manifest.model_dump(mode="json"))
        name = write_sums(bundle)
        sign(bundle)
    return name


def _system0(evidence: Path, params: Params) -> System0 | GivenSystem0:
    """What the policy was judged with, as its evidence states it."""
    record = evidence / RECORD_FILE
    if params.robot.system0 == WALKING:
        if record.exists():
            raise Psi0Error(f"{record} names another System-0 than params.yaml, {WALKING}; register the version anew")
        return System0(**system0_identity())
    if not record.exists():
        raise Psi0Error(f"{record} is missing, but robot.system0 is no {WALKING}; register the version anew")
    given = read_system0(record)
    return GivenSystem0(kind=given.kind, files=given.files)


def joint_map() -> dict[str, Any]:
    """Names and units of the 36 actions and 32 states, and which motor each joint is."""
    motors: dict[str, dict[str, Any]] = {joint: {"device": "g1", "motor": i} for i, joint in enumerate(_G1_MOTORS)}
    for side, part in zip(SIDES, (ActionPart.LEFT_HAND, ActionPart.RIGHT_HAND), strict=True):
        for number, joint in enumerate(ACTION_NAMES[part]):
            motors[joint] = {"device": f"dex3_{side}", "motor": number}
    units = dict.fromkeys(ACTION_NAMES, "rad") | {"height": "m", "velocity_x": "m/s", "velocity_y": "m/s"}
    units["velocity_yaw"] = "rad/s"
    return {
        "schema_version": 1,
        "action": [
            {"name": name, "unit": units[name], **motors.get(name, {"device": "system0"})} for name in ACTION_NAMES
        ],
        "state": list(STATE_NAMES),
        "system0_commands": list(LOWER_BODY_COMMANDS),
    }


def control(params: Params) -> dict[str, Any]:
    """Rates and horizons that the policy was trained and judged with."""
    return {
        "schema_version": 1,
        "policy_hz": params.control.policy_hz,
        "chunk": params.control.chunk,
        "execute": params.control.execute,
        "euler_steps": params.system1.euler_steps,
        "judged_inference_delay_ms": params.evaluation.inference_delay_ms,
        "max_delay_steps": max(0, params.finetune.max_delay - 1),
        "camera": {"width": params.camera.width, "height": params.camera.height},
    }


def _copy_files(evidence: Path, bundle: Path) -> dict[str, str]:
    (bundle / "evidence").mkdir()
    for path in [*sorted((evidence / "evaluation").glob("*.json")), evidence / "gate" / "gate.json"]:
        shutil.copyfile(path, bundle / "evidence" / path.name)
    shutil.copyfile(evidence / "gate" / "report.html", bundle / "evidence" / "report.html")
    roles = {"limits": "limits.json", "latency": "latency.json", "params": "params.yaml", "lock": "dvc.lock"}
    for name in roles.values():
        if not (evidence / name).exists():
            raise Psi0Error(f"{evidence / name} is missing; register the version anew")
        shutil.copyfile(evidence / name, bundle / name)
    parity = {"parity": f"{GRAPHS}/parity.json"} if (bundle / GRAPHS / "parity.json").exists() else {}
    return {**roles, **parity}


def _build_engines(params: Params, bundle: Path) -> dict[str, Engine]:
    """An engine per target of `publish.engines`; what cannot be built on this machine is absent, with the reason."""
    from psi0.export.engine.build import build_engine

    engines: dict[str, Engine] = {}
    for target in params.publish.engines:
        folder = bundle / "engines" / target
        folder.parent.mkdir(exist_ok=True)
        try:
            engines[target] = Engine(status=build_engine(bundle / GRAPHS, target, folder).status, reason="")
        except Psi0Error as error:
            engines[target] = Engine(status="absent", reason=str(error))
            write_json(folder / "absent.json", {"schema_version": 1, "target": target, "reason": str(error)})
    return engines
