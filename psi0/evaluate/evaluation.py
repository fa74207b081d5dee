"""From a policy to its evaluation files: which arms run on which seeds, and what is written down."""

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from psi0.errors import Psi0Error
from psi0.evaluate import controls
from psi0.evaluate import plan as planning
from psi0.evaluate.evidence import POLICY_ARM, SCRIPT_ARM, TORCH_ARM
from psi0.evaluate.intervals import confidence_sequence, wilson
from psi0.evaluate.pool import Pool, Workers
from psi0.evaluate.progress import progress
from psi0.evaluate.resolve import PolicySpec, torch_twin
from psi0.evaluate.rollout import Pace
from psi0.evaluate.runner import ArmRun, run_arms
from psi0.evaluate.schemas import Evaluation, Row, Summary
from psi0.evaluate.sequential import floor_test
from psi0.evaluate.stopping import consume
from psi0.evaluate.store import Store
from psi0.evaluate.worker import Arm, Setup
from psi0.files import sha256_file, sha256_folder, sha256_json
from psi0.lineage import fingerprint_code
from psi0.machine import processor
from psi0.params import Params
from psi0.paths import ROBOT
from psi0.settings import settings

_PACKAGES = ("mujoco", "numpy", "onnxruntime", "torch")
_WHAT_ROLLS_OUT = ("rollout.py", "controls.py", "worker.py", "baselines.py", "resolve.py")


@dataclass(frozen=True)
class Arrangement:
    """One arm to run.

    Attributes:
        spec: what acts.
        control: what is taken away from it.
        seeds: `plan` draws them from plan and policy; otherwise these, in this order.
        limit: most episodes.
        stop: `test` ends when the plan's test of this arm decides, `follow` where that of the policy decided,
            `limit` never early.
    """

    name: str
    spec: PolicySpec
    control: str
    limit: int
    stop: str = "limit"
    seeds: Sequence[int] | None = None


@dataclass(frozen=True)
class Evaluated:
    """An arm's evaluation and its films by seed."""

    evaluation: Evaluation
    films: dict[int, bytes]


def planned_arms(params: Params, task: str, spec: PolicySpec) -> list[Arrangement]:
    """The arms that the gate needs of a policy: itself, and every control that has a ceiling."""
    arms = [planned_arm(params, task, spec, POLICY_ARM)]
    return [*arms, *(planned_arm(params, task, spec, name) for name in params.control_ceilings(task))]


def evaluate_planned(
    params: Params, task: str, spec: PolicySpec, policy_folder: Path, setup: Callable[..., Setup] | None = None
) -> dict[str, Evaluated]:
    """Run everything that the gate needs of exported graphs, by arm.

    Where `gate.compare_torch` asks for it, the torch policy in `policy_folder` follows on exactly the seeds that the
    graphs were judged on.

    Args:
        setup: makes the workers' world for arrangements; None takes the simulator's.

    Raises:
        Psi0Error: the world or a policy cannot be built, or the folder holds another policy than the graphs.
    """
    made = setup or simulator_setup
    twin = torch_twin(policy_folder, spec) if params.gate.compare_torch else None
    arrangements = planned_arms(params, task, spec)
    evaluated = evaluate(params, task, arrangements, made(params, task, arrangements))
    if twin is not None:
        episodes = evaluated[POLICY_ARM].evaluation.summary.episodes
        follower = [Arrangement(TORCH_ARM, twin, "none", episodes, "follow")]
        evaluated |= evaluate(params, task, follower, made(params, task, follower))
    return evaluated


def planned_arm(params: Params, task: str, spec: PolicySpec, name: str) -> Arrangement:
    """One arm of the plan by name. Raises `Psi0Error` for an arm that does not exist."""
    if name == POLICY_ARM:
        return Arrangement(name, spec, "none", floor_test(params, task).n_max, "test")
    episodes = params.evaluation.control_episodes
    stop = "test" if name in params.control_ceilings(task) else "limit"
    if name == SCRIPT_ARM:
        script = PolicySpec("script", spec.sha256, params.control.chunk, graphs_sha256=spec.graphs_sha256)
        return Arrangement(name, script, "blind", episodes, stop)
    if name in controls.CONTROLS:
        return Arrangement(name, spec, name, episodes, stop)
    raise Psi0Error(f"arm {name!r} does not exist; arms: {POLICY_ARM}, {SCRIPT_ARM}, {', '.join(controls.CONTROLS)}")


def evaluate(
    params: Params,
    task: str,
    arrangements: Sequence[Arrangement],
    setup: Setup | None = None,
    videos: int | None = None,
    keep: bool = True,
) -> dict[str, Evaluated]:
    """Run arms in closed loop, side by side, and return what came of each, by name.

    Finished episodes are kept under `settings().home` and not repeated when this is called again.

    Args:
        setup: the world to run in; None makes the simulator's.
        videos: episodes to film per arm; None takes `evaluation.videos`.
        keep: False neither reads nor writes kept episodes.

    Raises:
        Psi0Error: the world or a policy cannot be built, or the scenes do not settle.
    """
    plan = planning.register(params, task)
    setup = setup or simulator_setup(params, task, arrangements)
    made_with = _made_with()
    runs = []
    for arrangement in arrangements:
        folder = settings().home / "evaluation" / plan.sha256[:16] / arrangement.spec.sha256[:16]
        source = f"{made_with}:{plan.sha256}:{arrangement.spec.sha256}:{arrangement.spec.graphs_sha256}"
        runs.append(
            ArmRun(
                name=arrangement.name,
                seeds=_seeds(arrangement, plan.sha256),
                limit=arrangement.limit,
                done=partial(_done, params, task, arrangement),
                store=Store(folder / f"{arrangement.name}.jsonl" if keep else None, source),
                videos=params.evaluation.videos if videos is None else videos,
                every_failure=arrangement.name == POLICY_ARM,
            )
        )
    with _workers(setup, params.evaluation.workers) as pool, progress() as reporter:
        run_arms(runs, pool, reporter)
    return {
        run.name: Evaluated(
            _evaluation(params, task, plan.sha256, setup.machine, arrangement, run), dict(sorted(run.films.items()))
        )
        for run, arrangement in zip(runs, arrangements, strict=True)
    }


def _workers(setup: Setup, count: int) -> AbstractContextManager[Workers]:
    """Processes of this machine, or of the Ray cluster where `PSI0_EVALUATE_ON` says so."""
    if settings().evaluate_on == "processes":
        return Pool(setup, count)
    from psi0.evaluate.ray_pool import RayPool

    return RayPool(setup, count)


def simulator_setup(params: Params, task: str, arrangements: Sequence[Arrangement]) -> Setup:
    """What workers need to run these arms in the simulator."""
    from psi0.sim.rendering import describe_renderer
    from psi0.sim.world import InvalidSeed, make_world

    return Setup(
        make_world=partial(
            make_world,
            task,
            params.control,
            params.camera,
            params.evaluation.level,
            objects=params.objects(task),
        ),
        invalid_seed=InvalidSeed,
        image_height=params.camera.height,
        image_width=params.camera.width,
        frames_per_second=params.control.policy_hz,
        arms=tuple(Arm(a.name, a.spec, pace(params, a.spec), a.control) for a in arrangements),
        swap_distance=params.evaluation.swap_distance,
        machine={"renderer": describe_renderer(), "processor": processor()},
    )


def pace(params: Params, spec: PolicySpec) -> Pace:
    """How chunks are executed; inference takes time only where there is inference, to a control's advantage."""
    return Pace(params.control.execute, planning.delay_steps(params) if spec.thinks else 0)


def summarize(rows: Sequence[Row], descriptive: bool) -> Summary:
    """What rows add up to; `descriptive` marks the fixed-sample interval of an arm that may stop early."""
    successes = sum(row.success for row in rows)
    return Summary(
        episodes=len(rows),
        successes=successes,
        success_rate=round(successes / len(rows), 6) if rows else 0.0,
        interval=wilson(successes, len(rows), descriptive),
        confidence_sequence=confidence_sequence(successes, len(rows)),
    )


def _evaluation(
    params: Params, task: str, plan_sha256: str, machine: Mapping[str, str], arrangement: Arrangement, run: ArmRun
) -> Evaluation:
    rows = [episode.row for episode in run.episodes]
    fixed = arrangement.stop == "limit" or (params.gate.fixed_n > 0 and arrangement.name in (POLICY_ARM, TORCH_ARM))
    return Evaluation(
        task=task,
        arm=run.name,
        policy=arrangement.spec.kind,
        privileged=arrangement.spec.privileged,
        plan_sha256=plan_sha256,
        policy_sha256=arrangement.spec.sha256,
        graphs_sha256=arrangement.spec.graphs_sha256,
        delay_steps=pace(params, arrangement.spec).delay,
        machine=dict(machine),
        seeds="plan" if arrangement.seeds is None else "range",
        summary=summarize(rows, descriptive=not fixed),
        rows=rows,
        invalid_seeds=run.invalid_seeds,
        repeated_seeds=run.repeated_seeds,
        differing_seeds=sorted(run.differing_seeds),
        scenes={str(episode.row.seed): episode.scene for episode in run.episodes},
        details={str(episode.row.seed): episode.detail for episode in run.episodes if episode.detail},
    )


def _seeds(arrangement: Arrangement, plan_sha256: str) -> Iterator[int]:
    if arrangement.seeds is not None:
        return iter(arrangement.seeds)
    return planning.derived_seeds(plan_sha256, arrangement.spec.sha256)


def _done(params: Params, task: str, arrangement: Arrangement, outcomes: Sequence[bool]) -> bool:
    return arrangement.stop == "test" and consume(params, task, arrangement.name, outcomes).finished


def _made_with() -> str:
    here = Path(__file__).parent
    robot = sha256_folder(ROBOT) if ROBOT.exists() else ""
    packages = {name: _version(name) for name in _PACKAGES}
    code = {name: sha256_file(here / name) for name in _WHAT_ROLLS_OUT}
    rooms = fingerprint_code("sim", "robot", "export", "model", "baselines")
    return sha256_json({"robot": robot, "packages": packages, "code": code, "rooms": rooms})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
