"""`report.html`: the verdict and all it rests on, in one file that opens from a disk and sends no request.

The gate's stage writes it first. A registered version gets it again, with what only the registry knows: the
comparison with the champion, the count of attempts, latency, addresses, an override.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from psi0.evaluate import charts
from psi0.evaluate.evidence import POLICY_ARM, SCRIPT_ARM, Evidence
from psi0.evaluate.films import ArmFilms, gather_films
from psi0.evaluate.intervals import confidence_sequence, wilson
from psi0.evaluate.origin import Origin, Training
from psi0.evaluate.schemas import ControlResult, Evaluation, Floor, GateFile
from psi0.evaluate.sequential import decide, floor_test
from psi0.files import write_text
from psi0.params import Params

TEMPLATE = "report.html.j2"

_MEANINGS = {
    "blind": "the same policy, its camera showing plain gray",
    "swapped_image": "the same policy, its camera showing another scene",
    SCRIPT_ARM: "the best motion we can write that looks at nothing",
}
_TAGS = {
    "fell": "the robot fell",
    "not_reached": "never touched the object",
    "not_grasped": "touched it, did not lift it",
    "dropped": "lifted it, dropped it",
    "limit": "a joint limit was violated",
    "invalid_action": "an invalid action was commanded",
    "policy_error": "the policy raised an error",
    "harness_error": "the harness failed three times",
    "timeout": "out of time",
}
_DATA_COLUMNS = {
    "episodes": "episodes",
    "frames": "frames",
    "frame_rate": "frames per second",
    "bad_share": "bad share",
    "set_aside": "set aside",
    "idle_share": "idle share",
    "still_channels": "channels that never move",
}


@dataclass(frozen=True)
class Beside:
    """Candidate and champion on the same fresh seeds.

    Attributes:
        champion: name of its version.
        episodes: seeds that both played.
        candidate_successes: of the candidate.
        champion_successes: of the champion.
        sentence: the comparison in words.
    """

    champion: str
    episodes: int
    candidate_successes: int
    champion_successes: int
    sentence: str


@dataclass(frozen=True)
class Registered:
    """What only the registry knows of a version.

    Attributes:
        version: its name and number.
        beside: the comparison with the champion, if there was one.
        latency: `latency.json`, as `psi0.deploy.latency.measure` returns it.
        override: who promoted it against the rule, and why; empty otherwise.
        addresses: pages to open, by name.
    """

    version: str = ""
    beside: Beside | None = None
    latency: Mapping[str, Any] = field(default_factory=dict)
    override: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)


def write_report(
    file: Path,
    verdict: GateFile,
    evidence: Evidence,
    params: Params,
    videos: Path,
    origin: Origin | None = None,
    registered: Registered | None = None,
) -> None:
    """Write the report of a verdict.

    Args:
        videos: folder of `<arm>_<seed>.mp4`; it may be missing.
        origin: where the policy comes from; None leaves these parts out.
        registered: what only the registry knows, for a registered version.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals |= {"outcome": outcome, "figure": figure, "data_columns": _DATA_COLUMNS}
    context = report_context(
        verdict, evidence, params, gather_films(evidence, videos), origin or Origin(), registered or Registered()
    )
    write_text(file, environment.get_template(TEMPLATE).render(**context))


def report_context(
    verdict: GateFile,
    evidence: Evidence,
    params: Params,
    films: list[ArmFilms],
    origin: Origin,
    registered: Registered,
) -> dict[str, Any]:
    """Everything that the template shows."""
    policy = evidence.evaluations.get(POLICY_ARM)
    # In the order of the plan, whatever the order in the file.
    controls = {str(name): verdict.controls[name] for name in params.gate.control_ceilings if name in verdict.controls}
    return {
        "verdict": verdict,
        "word": {"pass": "Passed", "refuse": "Refused", "void": "Void"}[verdict.verdict],
        "registered": registered,
        "floor_text": _floor_text(verdict),
        "success_chart": Markup(charts.success_chart(_bars(verdict.floor, registered.beside, controls))),
        "meanings": {arm_name(name): _MEANINGS[name] for name in controls if name in _MEANINGS},
        "path_chart": Markup(_path(verdict, policy, params)),
        "sequence_chart": Markup(_sequence(verdict, policy)),
        "pose_map": Markup(_map(policy)),
        "tags": _tags(evidence),
        "arms": {arm_name(name): evaluation for name, evaluation in evidence.evaluations.items()},
        "films": {arm_name(arm.arm): arm for arm in films},
        "filmed": {(arm_name(arm.arm), film.row.seed) for arm in films for film in arm.films},
        "curves": {training.name: Markup(_curves(index, training)) for index, training in enumerate(origin.trainings)},
        "origin": origin,
        "ancestors": {one.name for one in origin.ancestors},
        "delay_steps": policy.delay_steps if policy else 0,
        "params": params,
    }


def arm_name(arm: str) -> str:
    """An arm's name as people read it."""
    return arm.replace("_", " ")


def outcome(tag: str) -> str:
    """How an episode ended, in words."""
    return _TAGS.get(tag, tag.replace("_", " "))


def figure(name: str, value: float) -> str:
    """A stage's number as people read it: shares in percent, counts whole, others to four digits."""
    if name.endswith("_share"):
        return f"{value:.1%}"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"


def _floor_text(verdict: GateFile) -> str:
    floor = verdict.floor
    if floor is None:
        return "The floor test did not run."
    if floor.test == "fixed":
        return (
            f"Exact binomial test on {floor.n_max} episodes: a policy that succeeds in {floor.p0:.0%} or less "
            f"passes with a chance of at most {floor.alpha:.0%}."
        )
    return (
        f"Truncated sequential probability ratio test: a policy that succeeds in {floor.p0:.0%} passes with a chance "
        f"of at most {floor.alpha:.0%}, one that succeeds in {floor.p1:.0%} is refused with a chance of about "
        f"{floor.beta:.0%}. No decision after {floor.n_max} episodes means no promotion."
    )


def _bars(floor: Floor | None, beside: Beside | None, controls: Mapping[str, ControlResult]) -> list[charts.Bar]:
    bars = []
    if floor is not None:
        anytime = floor.confidence_sequence
        bars.append(
            charts.Bar(
                arm_name(POLICY_ARM),
                f"{floor.successes} of {floor.episodes}",
                floor.success_rate,
                floor.interval.low,
                floor.interval.high,
                floor.p0,
                f"must be above {floor.p0:.0%}",
                floor.decision == "accept",
                (anytime.low, anytime.high),
            )
        )
    if beside is not None:
        for label, successes in (
            ("policy again", beside.candidate_successes),
            ("champion", beside.champion_successes),
        ):
            interval = wilson(successes, beside.episodes, descriptive=False)
            count = f"{successes} of {beside.episodes}, on the same fresh seeds"
            bars.append(charts.Bar(label, count, successes / beside.episodes, interval.low, interval.high))
    for name, control in controls.items():
        bars.append(
            charts.Bar(
                arm_name(name),
                f"{control.successes} of {control.episodes}",
                control.success_rate,
                0.0,
                control.upper_bound,
                control.ceiling,
                f"must stay below {control.ceiling:.0%}",
                control.holds,
            )
        )
    return bars


def _path(verdict: GateFile, policy: Evaluation | None, params: Params) -> str:
    if policy is None:
        return ""
    test = floor_test(params, verdict.task)
    result = decide(test, [row.success for row in policy.rows])
    accept_at, reject_at = test.boundaries()
    return charts.path_chart(result.path, accept_at.tolist(), reject_at.tolist(), result.decision)


def _sequence(verdict: GateFile, policy: Evaluation | None) -> str:
    if policy is None or verdict.floor is None or not policy.rows:
        return ""
    bands, successes = [], 0
    for episodes, row in enumerate(policy.rows[: verdict.floor.episodes], start=1):
        successes += row.success
        interval = confidence_sequence(successes, episodes)
        bands.append(charts.Band(episodes, successes / episodes, interval.low, interval.high))
    return charts.sequence_chart(bands, verdict.floor.p0)


def _map(policy: Evaluation | None) -> str:
    if policy is None:
        return ""
    poses, name = [], "object"
    for row in policy.rows:
        scene = policy.scenes.get(str(row.seed), {})
        points, robot = scene.get("key_points"), scene.get("robot")
        if not points or not robot:
            continue
        name, point = next(iter(points.items()))
        ended = outcome(row.tag)
        poses.append(
            charts.Pose(row.seed, point[0], point[1], robot["x"], robot["y"], robot["yaw"], row.success, ended)
        )
    return charts.pose_map(poses, name)


def _tags(evidence: Evidence) -> list[tuple[str, list[int]]]:
    """What happened in failed episodes, most frequent first, with the count of each arm."""
    arms = [Counter(row.tag for row in arm.rows if not row.success) for arm in evidence.evaluations.values()]
    total = sum(arms, Counter())
    tags = sorted(total, key=lambda tag: (-total[tag], tag))
    return [(outcome(tag), [arm[tag] for arm in arms]) for tag in tags]


def _curves(index: int, training: Training) -> str:
    series = [(curve.name, curve.points) for curve in training.curves]
    return charts.curve_chart(f"stage{index}", series, f"Loss of {training.name}")
