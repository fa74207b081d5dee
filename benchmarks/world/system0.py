"""What System-0 does with its commands: `python -m benchmarks.world.system0`.

Commanded against reached velocities, heights and torso angles, how a walk begins, the drift of a robot that should
stand, pushes survived, and falls while walking about. Every run starts from another shaken pose.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from benchmarks.world.floor import Floor, Track, command
from psi0.evaluate.intervals import wilson
from psi0.robot.constants import TICK_HZ

_SKIP_SECONDS, _SECONDS = 3.0, 10.0
_DRIFT_SECONDS = _HEADING_SECONDS = 20.0
_PUSH_SECONDS, _AFTER_SECONDS = 0.2, 3.0
_WALK_SECONDS, _NEW_COMMAND_SECONDS = 60.0, 4.0
_HOUR = 3600.0
_WALKING = {"velocity_x": (-0.3, 0.5), "velocity_y": (-0.3, 0.3), "velocity_yaw": (-0.5, 0.5)}
VELOCITIES = (
    *({"velocity_x": value} for value in (-0.6, -0.4, -0.2, 0.2, 0.4, 0.6)),
    *({"velocity_y": value} for value in (-0.6, -0.3, 0.3, 0.6)),
    *({"velocity_yaw": value} for value in (-0.6, -0.3, 0.3, 0.6)),
)
HEADINGS = tuple(
    {"velocity_x": velocity, "target_yaw": yaw} for velocity in (0.3, -0.3) for yaw in (-1.0, -0.3, 0.0, 0.3, 1.0)
)
POSTURES = (
    *({"height": value} for value in (0.80, 0.756, 0.70, 0.65, 0.60, 0.55)),
    *({"torso_roll": value} for value in (-0.2, 0.2)),
    *({"torso_pitch": value} for value in (-0.2, 0.15, 0.3, 0.5)),
    *({"torso_yaw": value} for value in (-0.5, 0.5, 1.0)),
)
WALKING_LOW = tuple({"velocity_x": 0.3, "height": value} for value in (0.756, 0.73, 0.71, 0.67, 0.63))
BEGINNINGS = ({"velocity_x": 0.3}, {"velocity_x": -0.3}, {"velocity_y": 0.3}, {"velocity_y": -0.3})
_MOMENTS = (0.5, 1.0, 2.0, 3.0)
_TORSO = ("torso_roll", "torso_pitch", "torso_yaw")


def span(values: Sequence[float]) -> str:
    """The mean of some values, and how far they lie apart where they do."""
    low, high, mean = min(values), max(values), float(np.mean(values))
    return f"{mean:+.2f}" if high - low < 0.015 else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def named(asked: dict[str, float]) -> str:
    """Commands in words."""
    return ", ".join(f"{name} {value:g}" for name, value in asked.items())


def tracks(floor: Floor, asked: dict[str, float], runs: int, seconds: float) -> list[Track]:
    """Runs of one command, each from another start."""
    found = []
    for seed in range(runs):
        floor.stand(seed)
        found.append(floor.run(command(**asked), seconds))
    return found


def velocity_row(asked: dict[str, float], found: list[Track]) -> str:
    """Asked velocities, and vx, vy and yaw rate as reached by those that stayed up."""
    reached = [track.velocity(_SKIP_SECONDS) for track in found if not track.fell]
    columns = [span([value[axis] for value in reached]) if reached else "" for axis in range(3)]
    return f"| {named(asked)} | {' | '.join(columns)} | {sum(track.fell for track in found)} of {len(found)} |"


def heading_row(asked: dict[str, float], found: list[Track]) -> str:
    """The asked heading, the one that was reached, and the most it was off in the last half of a run."""
    upright = [track for track in found if not track.fell]
    turns = [track.turned for track in upright]
    reached = span([float(turn[-50:].mean()) for turn in turns]) if upright else ""
    off = max((float(np.abs(turn[len(turn) // 2 :] - asked["target_yaw"]).max()) for turn in turns), default=0.0)
    return f"| {named(asked)} | {reached} | {off:.2f} | {len(found) - len(upright)} of {len(found)} |"


def posture(track: Track, asked: dict[str, float]) -> float:
    """The value that a posture command is about, over the last second of a run."""
    last = slice(-50, None)
    for axis, name in enumerate(_TORSO):
        if name in asked:
            return float(track.torso[last, axis].mean())
    return float(track.position[last, 2].mean())


def posture_row(asked: dict[str, float], found: list[Track]) -> str:
    """The asked posture, what was reached, and how far the robot strayed meanwhile."""
    upright = [track for track in found if not track.fell]
    reached = span([posture(track, asked) for track in upright]) if upright else ""
    strayed = f"{max(track.drift[0] for track in upright):.2f}" if upright else ""
    return f"| {named(asked)} | {reached} | {strayed} | {len(found) - len(upright)} of {len(found)} |"


def drift_row(floor: Floor, runs: int, reaching: bool) -> str:
    """How far a robot that should stand strays in 20 s."""
    found = []
    for seed in range(runs):
        floor.stand(seed, reaching)
        found.append(floor.run(command(), _DRIFT_SECONDS))
    far, turn = (np.abs([track.drift[axis] for track in found]) for axis in range(2))
    arms = "arms reach about" if reaching else "arms still"
    return (
        f"| {arms} | {far.mean():.3f} | {far.max():.3f} | {turn.mean():.3f} | {turn.max():.3f} "
        f"| {sum(track.fell for track in found)} of {runs} |"
    )


def beginning_row(floor: Floor, asked: dict[str, float], runs: int) -> str:
    """How far to the left of where it stood a robot is, some moments after it began to walk."""
    aside = []
    for track in tracks(floor, asked, runs, _MOMENTS[-1]):
        moved = track.position[:, :2] - track.position[0, :2]
        left = np.cos(track.yaw[0]) * moved[:, 1] - np.sin(track.yaw[0]) * moved[:, 0]
        aside.append([left[round(moment * TICK_HZ) - 1] for moment in _MOMENTS])
    return f"| {named(asked)} | {' | '.join(f'{value:+.2f}' for value in np.mean(aside, axis=0))} |"


def pushed(angle: float, newton: float) -> Callable[[float], NDArray[np.float64]]:
    """A push of 0.2 s against the torso, level, from a direction [rad]."""
    force = newton * np.array([np.cos(angle), np.sin(angle), 0.0])
    return lambda seconds: force if seconds < _PUSH_SECONDS else np.zeros(3)


def push_row(floor: Floor, pushes: int, newton: float, walking: float) -> str:
    """Pushes from random directions that the robot stands for three seconds after."""
    random, survived = np.random.default_rng(5), 0
    for seed in range(pushes):
        floor.stand(seed)
        asked = command(velocity_x=walking)
        if walking:
            floor.run(asked, 1.0 + random.uniform(0.0, 1.0))
        push = pushed(random.uniform(-np.pi, np.pi), newton)
        survived += not floor.run(asked, _PUSH_SECONDS + _AFTER_SECONDS, push).fell
    interval = wilson(survived, pushes, descriptive=False)
    doing = f"walking {walking:g} m/s" if walking else "standing"
    return f"| {newton:.0f} N, {doing} | {survived} of {pushes} | {interval.low:.2f} to {interval.high:.2f} |"


def rate_interval(events: int, hours: float) -> tuple[float, float]:
    """Exact 95 % interval of a rate [1/h] after so many events in so many hours."""
    low = float(chi2.ppf(0.025, 2 * events) / 2) if events else 0.0
    return low / hours, float(chi2.ppf(0.975, 2 * events + 2) / 2) / hours


def walk_about(floor: Floor, hours: float) -> str:
    """Walk with commands that change every 4 s and arms that reach about; count falls."""
    random = np.random.default_rng(7)
    walked, falls, seed = 0.0, 0, 0
    while walked < hours * _HOUR - 1e-6:
        floor.stand(seed, reaching=True)
        seed, ended = seed + 1, False
        for _ in range(round(_WALK_SECONDS / _NEW_COMMAND_SECONDS)):
            asked = {name: random.uniform(*limits) for name, limits in _WALKING.items()}
            track = floor.run(command(**asked), _NEW_COMMAND_SECONDS)
            walked += track.seconds
            ended = track.fell
            if ended or walked >= hours * _HOUR - 1e-6:
                break
        falls += ended
    done = walked / _HOUR
    low, high = rate_interval(falls, done)
    return f"| {done:.2f} h | {falls} | {falls / done:.1f} per hour | {low:.1f} to {high:.1f} per hour |"


def _commands(floor: Floor, chosen: argparse.Namespace) -> Iterator[str]:
    yield _head("Asked [m/s, rad/s] | vx [m/s] | vy [m/s] | yaw rate [rad/s] | Fell")
    for asked in VELOCITIES:
        yield velocity_row(asked, tracks(floor, asked, chosen.runs, _SECONDS))
    yield _head("Asked, walking [m/s, rad] | Heading reached [rad] | Off at most, 10 to 20 s [rad] | Fell")
    for asked in HEADINGS:
        yield heading_row(asked, tracks(floor, asked, chosen.runs, _HEADING_SECONDS))
    yield _head("Asked, standing [m, rad] | Reached | Strayed at most in 10 s [m] | Fell")
    for asked in POSTURES:
        yield posture_row(asked, tracks(floor, asked, chosen.runs, _SECONDS))
    yield _head("Asked, walking [m/s, m] | vx [m/s] | vy [m/s] | yaw rate [rad/s] | Fell")
    for asked in WALKING_LOW:
        yield velocity_row(asked, tracks(floor, asked, chosen.runs, _SECONDS))


def _beginnings(floor: Floor, chosen: argparse.Namespace) -> Iterator[str]:
    yield _head("Asked, standing before [m/s] | " + " | ".join(f"left after {moment:g} s [m]" for moment in _MOMENTS))
    for asked in BEGINNINGS:
        yield beginning_row(floor, asked, chosen.runs)


def _drift(floor: Floor, chosen: argparse.Namespace) -> Iterator[str]:
    yield _head("Should stand, 20 s | Strayed, mean [m] | most [m] | Turned, mean [rad] | most [rad] | Fell")
    for reaching in (False, True):
        yield drift_row(floor, chosen.drifts, reaching)


def _pushes(floor: Floor, chosen: argparse.Namespace) -> Iterator[str]:
    yield _head("Push of 0.2 s against the torso | Survived | 95 % Wilson interval")
    yield push_row(floor, chosen.pushes, chosen.newton, chosen.walking)


def _falls(floor: Floor, chosen: argparse.Namespace) -> Iterator[str]:
    yield _head("Walked | Falls | Rate | 95 % interval")
    yield walk_about(floor, chosen.hours)


def _head(columns: str) -> str:
    return f"\n| {columns} |\n|{'---|' * (columns.count(' | ') + 1)}"


TABLES = {"commands": _commands, "beginnings": _beginnings, "drift": _drift, "pushes": _pushes, "falls": _falls}


def main() -> None:
    """Print the tables, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--runs", type=int, default=4, help="starts per command")
    parser.add_argument("--drifts", type=int, default=10, help="starts of the drift")
    parser.add_argument("--pushes", type=int, default=100, help="pushes, each from a random direction")
    parser.add_argument("--newton", type=float, default=160.0, help="force of a push [N]")
    parser.add_argument("--walking", type=float, default=0.0, help="forward command while pushed [m/s]")
    parser.add_argument("--hours", type=float, default=1.0, help="simulated time of walking about [h]")
    chosen = parser.parse_args()
    floor = Floor()
    for name in chosen.tables:
        for line in TABLES[name](floor, chosen):
            print(line, flush=True)


if __name__ == "__main__":
    main()
